"""`potstill push` and `potstill pull`: bundles to the Hugging Face hub, and from it."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from potstill.commands.options.bundle import trust_option
from potstill.contract.system.hub import hub_client
from potstill.export.config import CardMetadata, PushConfig

PATH = click.Path(path_type=Path)


@click.command("push")
@click.argument("bundle", type=PATH)
@click.argument("name", metavar="USER/NAME")
@click.option("--private", is_flag=True, help="Only you see a repository that is made now.")
@click.option("--revision", metavar="BRANCH", default=PushConfig.revision, show_default=True, help="Made if it is not there.")
@click.option(
    "--license", metavar="ID", help="Of the bundle, as the hub writes it: mit, apache-2.0, other.  [default: none is named]"
)
@click.option("--language", "languages", metavar="CODE", multiple=True, help="Of the texts, such as en. Repeatable.")
@click.option("--dataset", "datasets", metavar="USER/NAME", multiple=True, help="On the hub, that the texts come from. Repeatable.")
@click.option("--message", default=PushConfig.message, show_default=True, help="Of the commit.")
@click.option(
    "--sign", metavar="KEY", help="Private key (elliptic curve, PEM) to sign with. A signed bundle has to be signed again."
)
def push(
    bundle: Path,
    name: str,
    private: bool,
    revision: str,
    license: str | None,
    languages: tuple[str, ...],
    datasets: tuple[str, ...],
    message: str,
    sign: str | None,
) -> None:
    """Write BUNDLE into the repository USER/NAME of the Hugging Face hub, in one commit, with a card of metadata and scores.

    Log in with `hf auth login`, or set HF_TOKEN. HF_ENDPOINT names another hub.
    """
    from potstill.export.layouts.push import push_to_hub  # loads onnxruntime, which the help does without

    _quiet_client()
    metadata = CardMetadata(license, languages, datasets)
    config = PushConfig(private=private, revision=revision, message=message, card=metadata, sign=sign)
    click.echo(push_to_hub(bundle, name, config).as_text())


@click.command("pull")
@click.argument("name", metavar="USER/NAME")
@click.argument("folder", type=PATH)
@click.option("--revision", help="Branch, tag or commit.  [default: main]")
@click.option("--local-files-only", is_flag=True, help="Ask nothing of the hub; take what its cache on this machine has.")
@click.option(
    "--key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Public key (PEM) of whoever must have signed it.  [default: a signature is only mentioned]",
)
@trust_option
def pull(name: str, folder: Path, revision: str | None, local_files_only: bool, key: Path | None, trust: bool) -> None:
    """Write the bundle USER/NAME of the Hugging Face hub into FOLDER, once its sums, format and golden texts are verified.

    Of a private one: log in with `hf auth login`, or set HF_TOKEN. HF_ENDPOINT names another hub.
    """
    from potstill.serve.offline.pull import pull as pull_bundle
    from potstill.serve.runtime.hub import HubSource

    _quiet_client()
    source = HubSource(name, revision, local_files_only=local_files_only)
    click.echo(pull_bundle(source, folder, key, trust=trust).as_text())


def _quiet_client() -> None:
    """Let the hub's client say nothing of its retries, and draw bars on a terminal only."""
    hub = hub_client("hub")
    hub.utils.logging.set_verbosity_error()
    if not sys.stderr.isatty():
        hub.utils.disable_progress_bars()
