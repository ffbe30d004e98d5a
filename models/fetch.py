"""Fetch a model of the catalog from the Hugging Face hub, with progress, resuming broken transfers, verified at the end."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from potstill.contract.errors import UserError
from potstill.contract.files import atomic, decode, digest
from potstill.contract.system.hub import hub_client, hub_errors, hub_reason
from potstill.models import gguf
from potstill.models.catalog import (
    MAIN,
    Entry,
    Hub,
    Package,
    by_hand,
    cache_folder,
    load_catalog,
    located,
    make_cache_folder,
    record_sums,
    recorded_sums,
)
from potstill.models.encoder import find_weights

DownloadProgress = Callable[[str, int, int], None]  # (file name, bytes so far, total bytes)

TIMEOUT_S = 10.0  # for the hub's first answer
POLL_S = 0.2  # between two progress reports
REVISION_FILE = "REVISION"  # beside the files: the commit of the hub that they came from
_SHA256 = re.compile("[0-9a-f]{64}")
_COMMIT = re.compile("[0-9a-f]{40}")


def fetch(name: str, progress: DownloadProgress | None = None) -> Path:
    """Download a model unless it is already complete on this machine; what is here is compared with its recorded SHA-256.

    All files come from one commit of the hub: the one that the catalog names, else the one that `main` was at the first fetch.

    Args:
        name: of the catalog.
        progress: called with (file name, bytes so far, total bytes).
    Returns:
        the GGUF file of a teacher, or the folder of a backbone.
    Raises:
        UserError: if the name is unknown, the model's package is not installed, there is no folder to write to, the hub cannot be
            reached or refuses, or a file's SHA-256 is not that of the catalog, the hub or the first fetch. What was downloaded is
            kept, to resume from.
        FormatError: if the downloaded model is incomplete.
    """
    catalog = load_catalog()
    entry = catalog.get(name)
    if entry is None:
        raise UserError(f"{name!r} is not a known model; known: {', '.join(catalog)}")
    if isinstance(entry.source, Package):
        return _checked(entry, located(entry))
    folder = cache_folder() / entry.name
    known = recorded_sums(folder)
    for file in entry.files:
        if file in known and (folder / file).is_file():
            _compare(folder / file, digest.of_file(folder / file), _wanted(entry, file) or known[file])
        else:
            source = Hub(repository=entry.source.repository, revision=_revision(entry.source, folder))
            found = _download(entry, source, folder, file, progress)
            record_sums(folder, {file: found})
    return _checked(entry, folder)


def _revision(source: Hub, folder: Path) -> str:
    """The revision to fetch: the catalog's if it names one, else the commit that an earlier fetch recorded, else the newest."""
    path = folder / REVISION_FILE
    if source.revision != MAIN or not path.is_file():
        return source.revision
    recorded = decode.utf8(path, decode.read_bytes(path)).strip()
    return recorded if _COMMIT.fullmatch(recorded) else source.revision


def _wanted(entry: Entry, file: str) -> str | None:
    """The SHA-256 that the catalog states for a file; None if it states none."""
    return entry.sha256 if file == entry.file else None


def _compare(path: Path, found: str, wanted: str | None) -> None:
    """Refuse a file with another SHA-256 than it must have; None: nothing is known. Raises UserError."""
    if wanted and found != wanted:
        raise UserError(f"{path}: SHA-256 is {found[:12]}…, expected {wanted[:12]}…; delete the file and fetch it again")


def _checked(entry: Entry, folder: Path) -> Path:
    """The GGUF file or encoder folder; raises FormatError if it is incomplete."""
    if entry.kind == "teacher":
        gguf.read_header(folder / entry.file)
        return folder / entry.file
    find_weights(folder)
    return folder


def _download(entry: Entry, source: Hub, folder: Path, file: str, progress: DownloadProgress | None) -> str:
    """Download one file into the folder; returns its SHA-256."""
    make_cache_folder(folder)
    hub = _hub()
    session = hub.utils.get_session()
    try:
        url = hub.hf_hub_url(source.repository, file, revision=source.revision)
        session.head(url, timeout=TIMEOUT_S)  # fails at once without a network; the next call retries for long
        remote = hub.get_hf_file_metadata(url)
        commit = remote.commit_hash if _COMMIT.fullmatch(remote.commit_hash or "") else None
        with _watched(folder, remote.etag, file, remote.size or 0, progress):
            path = hub.hf_hub_download(source.repository, file, revision=commit or source.revision, local_dir=folder)
    except hub_errors(hub) as error:
        failure = f"{entry.name}: {file} could not be fetched: {hub_reason(error)}"
        raise UserError(f"{failure}; try again, the download resumes where it stopped; or, {by_hand(entry)}") from error
    found = digest.of_file(Path(path))
    hub_sha256 = remote.etag if _SHA256.fullmatch(remote.etag or "") else None  # the hub's ETag of a large file is its SHA-256
    _compare(Path(path), found, _wanted(entry, file) or recorded_sums(folder).get(file) or hub_sha256)
    if commit:
        atomic.write_file(folder / REVISION_FILE, f"{commit}\n".encode())
    return found


def _hub() -> Any:
    """Import the hub's client and set it to plain HTTP, where a broken transfer resumes from its last byte."""
    hub = hub_client("label")
    hub.constants.HF_HUB_DISABLE_XET = True
    hub.utils.disable_progress_bars()
    hub.utils.logging.set_verbosity_error()
    return hub


@contextmanager
def _watched(folder: Path, etag: str | None, file: str, total: int, progress: DownloadProgress | None) -> Iterator[None]:
    """Report the growth of the unfinished file while the block runs."""
    if progress is None:
        yield
        return
    report, done = progress, threading.Event()

    def look() -> None:
        while not done.wait(POLL_S):
            for part in folder.glob(f".cache/huggingface/download/*{etag}.incomplete"):
                report(file, part.stat().st_size if part.exists() else total, total)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
    progress(file, total, total)
