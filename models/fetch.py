"""Fetch a model of the catalog from the Hugging Face hub, with progress, resuming broken transfers, verified at the end."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from potstill.contract.errors import MissingExtraError, UserError
from potstill.contract.files import digest
from potstill.models import gguf
from potstill.models.catalog import (
    Entry,
    Hub,
    Package,
    by_hand,
    cache_folder,
    encoder_weights,
    load_catalog,
    located,
    record_sums,
    recorded_sums,
)

DownloadProgress = Callable[[str, int, int], None]  # (file name, bytes so far, total bytes)

TIMEOUT_S = 10.0  # for the hub's first answer
POLL_S = 0.2  # between two progress reports
_SHA256 = re.compile("[0-9a-f]{64}")


def fetch(name: str, progress: DownloadProgress | None = None) -> Path:
    """Download a model unless it is already complete on this machine.

    Args:
        name: of the catalog.
        progress: called with (file name, bytes so far, total bytes).
    Returns:
        the GGUF file of a teacher, or the folder of a backbone.
    Raises:
        UserError: if the name is unknown, the model's package is not installed, the hub cannot be reached or refuses, or a file's
            SHA-256 is not that of the catalog, the hub or the first fetch. What was downloaded is kept, to resume from.
        FormatError: if the downloaded model is incomplete.
    """
    catalog = load_catalog()
    entry = catalog.get(name)
    if entry is None:
        raise UserError(f"{name!r} is not a known model; known: {', '.join(catalog)}")
    if isinstance(entry.source, Package):
        return _checked(entry, located(entry))
    folder = cache_folder() / entry.name
    if not all((folder / file).is_file() for file in entry.files) or set(recorded_sums(folder)) < set(entry.files):
        sums = {file: _download(entry, entry.source, folder, file, progress) for file in entry.files}
        record_sums(folder, sums)
    return _checked(entry, folder)


def _checked(entry: Entry, folder: Path) -> Path:
    """The GGUF file or encoder folder; raises FormatError if it is incomplete."""
    if entry.kind == "teacher":
        gguf.read_header(folder / entry.file)
        return folder / entry.file
    encoder_weights(folder)
    return folder


def _download(entry: Entry, source: Hub, folder: Path, file: str, progress: DownloadProgress | None) -> str:
    """Download one file into the folder; returns its SHA-256."""
    hub = _hub()
    try:
        url = hub.hf_hub_url(source.repository, file, revision=source.revision)
        hub.utils.get_session().head(url, timeout=TIMEOUT_S)  # fails at once without a network; the next call retries for long
        remote = hub.get_hf_file_metadata(url)
        with _watched(folder, remote.etag, file, remote.size or 0, progress):
            path = hub.hf_hub_download(source.repository, file, revision=source.revision, local_dir=folder)
    except OSError as error:  # all errors of the hub's client and of requests are OSErrors
        failure = f"{entry.name}: {file} could not be fetched: {_reason(error)}"
        raise UserError(f"{failure}; try again, the download resumes where it stopped; or, {by_hand(entry)}") from error
    found = digest.of_file(Path(path))
    hub_sha256 = remote.etag if _SHA256.fullmatch(remote.etag or "") else None  # the hub's ETag of a large file is its SHA-256
    wanted = (entry.sha256 if file == entry.file else None) or recorded_sums(folder).get(file) or hub_sha256
    if wanted and found != wanted:
        raise UserError(f"{path}: SHA-256 is {found[:12]}…, expected {wanted[:12]}…; delete the file and fetch it again")
    return found


def _hub() -> Any:
    """Import the hub's client and set it to plain HTTP, where a broken transfer resumes from its last byte."""
    try:
        import huggingface_hub
        from huggingface_hub import constants, utils
    except ModuleNotFoundError:
        raise MissingExtraError("huggingface_hub", "label") from None
    constants.HF_HUB_DISABLE_XET = True
    utils.disable_progress_bars()
    utils.logging.set_verbosity_error()
    return huggingface_hub


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


def _reason(error: OSError) -> str:
    """The reason for a failed download, in a few words."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"the hub answered {response.status_code}"
    if error.strerror:
        return error.strerror
    return "the hub cannot be reached"
