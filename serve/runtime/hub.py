"""Bundles from the Hugging Face hub: downloaded into the hub client's cache, and checked like any other before they are opened.

A repository is not quite a bundle: it holds files of the hub beside it, and people edit its card there. So exactly the files that
`SHA256SUMS` lists are taken, all of one commit, and of the card alone another content is accepted: nothing reads it.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from potstill.contract.bundle import MAX_BYTES, SUMS_FILE, BundleFiles, read_files, read_sums
from potstill.contract.errors import FormatError, UserError
from potstill.contract.files import atomic, decode, digest
from potstill.contract.security.signature import SIGNATURE_FILE
from potstill.contract.system.hub import LOG_IN, hub_client, hub_errors, hub_reason, hub_status

CARD_FILE = "README.md"
_PART = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"
_NAME = re.compile(f"{_PART}/{_PART}")
_MISSING = 404
TIMEOUT_S = 10.0  # for the hub's first answer


@dataclass(frozen=True)
class HubSource:
    """Where on the hub a bundle lies, and how to get at it.

    Raises:
        UserError: if the name is not one of the hub's.
    """

    name: str  # USER/NAME
    revision: str | None = None  # branch, tag or commit; None: main
    token: str | None = None  # of access; None: HF_TOKEN, or what `hf auth login` has stored
    cache: str | Path | None = None  # folder; None: the hub client's
    local_files_only: bool = False  # True: ask nothing of the hub, take what the cache has

    def __post_init__(self) -> None:
        """Check the name."""
        check_hub_name(self.name)


@dataclass(frozen=True)
class HubFiles:
    """The files of a bundle in the cache."""

    source: HubSource
    commit: str
    paths: dict[str, Path]  # by name; all that SHA256SUMS lists, itself, and a signature if there is one


def check_hub_name(name: str) -> None:
    """Raise UserError if a name cannot be one of the hub's."""
    if not is_hub_name(name):
        raise UserError(f"{name!r} is not a name on the hub; give USER/NAME")


def is_hub_name(name: str) -> bool:
    """Tell whether a name can be one of the hub's: USER/NAME."""
    return _NAME.fullmatch(name) is not None


def download(source: HubSource) -> HubFiles:
    """Get a bundle's files into the cache; what is there already is not asked for again.

    Raises:
        UserError: if the hub cannot be reached or refuses, the repository is not there, or it, or the cache, lacks a file.
        FormatError: if `SHA256SUMS` is malformed.
        MissingExtraError: if the hub's client is not installed.
    """
    if not source.local_files_only and not _is_reachable(source):
        source = replace(source, local_files_only=True)
    sums = _get(source, SUMS_FILE, source.revision)
    if sums.stat().st_size > MAX_BYTES[SUMS_FILE]:
        raise FormatError(f"{source.name}/{SUMS_FILE}", "", f"has more than {MAX_BYTES[SUMS_FILE]} bytes, so it is no bundle's")
    commit = sums.parent.name  # of the client's cache: snapshots/COMMIT/SHA256SUMS
    names = read_sums(Path(source.name) / SUMS_FILE, decode.read_bytes(sums))
    paths = {SUMS_FILE: sums, **{name: _get(source, name, commit) for name in names}}
    signature = _signature(source, commit)
    if signature is not None:
        paths[SIGNATURE_FILE] = signature
    return HubFiles(source, commit, paths)


def copy_to(found: HubFiles, folder: Path) -> bool:
    """Copy the files into an empty folder.

    Returns:
        Whether the card was edited on the hub. Its sum is then written anew, and a signature, which was over the other, left out.
    Raises:
        OSError: if the folder cannot be written.
    """
    for name, path in found.paths.items():
        shutil.copyfile(path, folder / name)
    sums = read_sums(folder / SUMS_FILE, decode.read_bytes(folder / SUMS_FILE))
    if CARD_FILE not in sums or (own := digest.of_file(folder / CARD_FILE)) == sums[CARD_FILE]:
        return False
    lines = [f"{own if name == CARD_FILE else sha256}  {name}\n" for name, sha256 in sums.items()]
    (folder / SUMS_FILE).write_text("".join(lines), encoding="ascii", newline="\n")
    (folder / SIGNATURE_FILE).unlink(missing_ok=True)
    return True


def read_from_hub(source: HubSource, *, trust: bool = False) -> BundleFiles:
    """Download a bundle and read it, every file once and checked against its sum.

    Args:
        source: the repository.
        trust: as :class:`BundleFiles` has it.
    Raises:
        FormatError, UserError: as :func:`download`; also if a file is not what `SHA256SUMS` says.
    """
    found = download(source)
    with atomic.scratch("potstill-hub") as folder:
        copy_to(found, folder)
        try:
            files = read_files(folder, trust)
        except FormatError as error:
            raise FormatError(f"{source.name}/{error.path.name}", error.place, error.problem) from None
    return BundleFiles(Path(source.name), files.digest, files.contents, trust)


def _is_reachable(source: HubSource) -> bool:
    """Tell whether the hub answers: at once, where the client would try for 25 s before it takes what is in the cache."""
    hub = hub_client("hub")
    try:
        hub.utils.get_session().head(hub.hf_hub_url(source.name, SUMS_FILE, revision=source.revision), timeout=TIMEOUT_S)
    except hub_errors(hub):
        return False
    return True


def _get(source: HubSource, file: str, revision: str | None) -> Path:
    """The path of a file in the cache; raises UserError."""
    hub = hub_client("hub")
    try:
        return Path(_ask(hub, source, file, revision))
    except hub_errors(hub, RuntimeError) as error:
        _refuse(hub, source, file, error)


def _signature(source: HubSource, commit: str) -> Path | None:
    """The path of the signature; None if there is none."""
    hub = hub_client("hub")
    try:
        return Path(_ask(hub, source, SIGNATURE_FILE, commit))
    except hub.errors.EntryNotFoundError as error:
        if hub_status(error) in (None, _MISSING):  # without a status: it is not in the cache
            return None
        _refuse(hub, source, SIGNATURE_FILE, error)
    except hub_errors(hub) as error:
        _refuse(hub, source, SIGNATURE_FILE, error)


def _ask(hub: Any, source: HubSource, file: str, revision: str | None) -> str:
    """Have the client download one file; it does not hold up a file that is there."""
    found: str = hub.hf_hub_download(
        source.name,
        file,
        revision=revision,
        cache_dir=source.cache,
        token=source.token,
        local_files_only=source.local_files_only,
    )
    return found


def _refuse(hub: Any, source: HubSource, file: str, error: BaseException) -> NoReturn:
    """Say why a file did not come, and what to do; raises UserError."""
    errors, name, at = hub.errors, source.name, source.revision or "main"
    if isinstance(error, errors.GatedRepoError):
        problem = f"its owner has to let you in; ask on its page, then {LOG_IN}"
    elif isinstance(error, errors.RepositoryNotFoundError):
        problem = f"the hub has no such model, or it is private; check the name, or {LOG_IN}"
    elif isinstance(error, errors.RevisionNotFoundError):
        problem = f"has no revision {at!r}; name a branch, a tag or a commit"
    elif isinstance(error, errors.LocalEntryNotFoundError) and source.local_files_only:
        asked = "the hub cannot be reached or may not be asked"
        problem = f"{file} of revision {at!r} is not in the cache, and {asked}; fetch it once with a network"
    elif isinstance(error, errors.EntryNotFoundError) and hub_status(error) == _MISSING:
        lacks = "so it is not a bundle" if file == SUMS_FILE else f"which its {SUMS_FILE} lists"
        problem = f"has no {file} at revision {at!r}, {lacks}; write one there with: potstill push BUNDLE {name}"
    elif hub_status(error) in (401, 403):
        problem = f"{file} could not be fetched: {hub_reason(error)}; {LOG_IN}, with a token that may read it"
    else:
        problem = f"{file} could not be fetched: {hub_reason(error)}; try again, the download resumes where it stopped"
    raise UserError(f"{name}: {problem}") from error
