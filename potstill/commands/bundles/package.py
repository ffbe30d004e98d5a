"""`potstill package` and `potstill sign`: a bundle for another server or hub, and a signature over its files."""

from __future__ import annotations

from pathlib import Path

import click

from potstill.commands.console.progress import progress
from potstill.contract.security.signature import SIGNATURE_FILE
from potstill.export.config import LAYOUTS, PackageConfig

PATH = click.Path(path_type=Path)


@click.command("package")
@click.argument("bundle", type=PATH)
@click.argument("folder", type=PATH)
@click.option("--layout", "--for", "layout", type=click.Choice(LAYOUTS), required=True, help="Layout to write.")
@click.option(
    "--image",
    help="Name of the container image, for docker, kserve and kubernetes.  [default: the task's, with the bundle's digest]",
)
@click.option(
    "--runtime",
    metavar="FILE",
    help="onnxruntime-web, for the layouts web and space: the archive that npm pack writes, or the unpacked package.  "
    "[default: what the variable POTSTILL_WEB_RUNTIME names]",
)
@click.option("--sign", metavar="KEY", help="Private key (elliptic curve, PEM) to sign the folder with, as model.sig.")
def package(bundle: Path, folder: Path, layout: str, image: str | None, runtime: str | None, sign: str | None) -> None:
    """Write BUNDLE into FOLDER in another layout, with its card, a bill of materials, sums, and a signature if a key is given."""
    from potstill.export.layouts import package as layouts  # loads onnxruntime, which the help does without

    with progress("package"):
        report = layouts.package(bundle, folder, PackageConfig(layout, image, sign, runtime))
    click.echo(report.as_text())


@click.command("sign")
@click.argument("bundle", type=PATH)
@click.option("--key", type=PATH, required=True, help="Private key: elliptic curve, PEM, no password.")
def sign(bundle: Path, key: Path) -> None:
    """Write a signature into BUNDLE, as model.sig; check it with: potstill verify BUNDLE --key PUBLIC."""
    from potstill.export.layouts import package as layouts

    layouts.sign_bundle(bundle, key)
    click.echo(f"{bundle}: signed ({SIGNATURE_FILE}); check it with: potstill verify {bundle} --key PUBLIC")
