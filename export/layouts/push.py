"""Push a bundle to the Hugging Face hub, in one commit: `potstill push`."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from potstill.contract.bundle import FAST_MODEL_FILE, FAST_TOKENIZER_FILE, Manifest, read_manifest, verify_files, write_sums
from potstill.contract.errors import UserError
from potstill.contract.files import atomic
from potstill.contract.promises.familiarity import FAMILIARITY_FILE
from potstill.contract.security.signature import SIGNATURE_FILE, sign
from potstill.contract.system.hub import LOG_IN, hub_client, hub_errors, hub_reason, hub_status
from potstill.export.bundle import card
from potstill.export.bundle.hub_card import hub_card
from potstill.export.config import MAIN, PushConfig
from potstill.serve.runtime.hub import check_hub_name

# Files that another version of the bundle may have had; what else is in the repository stays.
OPTIONAL_FILES = (FAST_MODEL_FILE, FAST_TOKENIZER_FILE, FAMILIARITY_FILE, SIGNATURE_FILE)


@dataclass(frozen=True)
class PushReport:
    """The commit that holds the bundle."""

    name: str
    url: str  # of the commit
    commit: str
    n_files: int
    size_bytes: int

    def as_text(self) -> str:
        """One line."""
        return (
            f"{self.name}: {self.n_files} files, {self.size_bytes / 1e6:.1f} MB, commit {self.commit[:12]}; {self.url}\n"
            f'Classifier.from_pretrained("{self.name}", revision="{self.commit}") opens it'
        )


_PUSH = PushConfig()


def push_to_hub(bundle: str | Path, name: str, config: PushConfig = _PUSH) -> PushReport:
    """Write a bundle into a repository of the hub, which is made if it is not there. All files change in one commit, or none.

    The card there is the bundle's with metadata for the hub and another `Use`; so its sum is new, and the bundle is signed again.

    Args:
        bundle: the folder; its sums are checked first.
        name: USER/NAME.
        config: branch, access, and what the card says.
    Raises:
        FormatError: if the bundle is malformed or was changed.
        UserError: if the bundle is signed and no key is given, the key cannot be used, or the hub cannot be reached or refuses.
        MissingExtraError: if the hub's client is not installed.
    """
    bundle = Path(bundle)
    check_hub_name(name)
    verify_files(bundle)
    manifest = read_manifest(bundle)
    if (bundle / SIGNATURE_FILE).exists() and config.sign is None:
        raise UserError(f"{bundle}: is signed, and its card changes for the hub; give the key to sign it again with (--sign)")
    hub = hub_client("hub")
    with atomic.scratch("potstill-push") as folder:
        _fill(bundle, folder, manifest, name, config, hub)
        sizes = [path.stat().st_size for path in folder.iterdir()]
        try:
            done = _commit(hub, folder, name, config)
        except hub_errors(hub, RuntimeError, ValueError) as error:
            _refuse(name, error)
    return PushReport(name, str(done.commit_url), str(done.oid), len(sizes), sum(sizes))


def _fill(bundle: Path, folder: Path, manifest: Manifest, name: str, config: PushConfig, hub: Any) -> None:
    """Write what goes into the repository into a folder."""
    for path in bundle.iterdir():
        if path.name != SIGNATURE_FILE:
            shutil.copyfile(path, folder / path.name)
    place = folder / card.FILE
    text = place.read_text(encoding="utf-8") if place.is_file() else ""
    place.write_text(hub_card(text, manifest, name, config.card, hub), encoding="utf-8", newline="\n")
    write_sums(folder)
    if config.sign:
        sign(folder, Path(config.sign))


def _commit(hub: Any, folder: Path, name: str, config: PushConfig) -> Any:
    """Make repository and branch where they are not there, and commit the folder; the client's report of the commit."""
    api = hub.HfApi(token=config.token)
    api.create_repo(name, private=config.private or None, exist_ok=True)
    if config.revision != MAIN:
        api.create_branch(name, branch=config.revision, exist_ok=True)
    gone = [one for one in OPTIONAL_FILES if not (folder / one).exists()]
    return api.upload_folder(
        repo_id=name, folder_path=folder, revision=config.revision, commit_message=config.message, delete_patterns=gone
    )


def _refuse(name: str, error: Exception) -> NoReturn:
    """Say why the hub did not take the bundle, and what to do; raises UserError, or what is no error of the hub's."""
    status = hub_status(error)
    if status is None and not isinstance(error, OSError) and not isinstance(error.__cause__, OSError):
        raise error
    if status == 401:
        problem = f"the hub answered 401: it does not know you; {LOG_IN}, with a token that may write"
    elif status == 403:
        problem = f"the hub answered 403: you may not write there; check the name, or {LOG_IN}, with a token that may"
    elif status == 400:
        problem = f"the hub answered 400: {' '.join(str(error).split())}"
    else:
        problem = f"{hub_reason(error)}; try again"
    raise UserError(f"{name}: the bundle was not pushed: {problem}") from error
