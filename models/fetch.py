"""Fetching a model of the catalog from the Hugging Face hub: with progress, resumed where it broke off, checked once whole."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from potstill.contract.errors import MissingExtraError, UserError
from potstill.contract.files import digest
from potstill.models import gguf, places
from potstill.models.catalog import Entry, Hub, Package, by_hand, encoder_weights, load_catalog, located

Progress = Callable[[str, int, int], None]

TIMEOUT_S = 10.0  # for the hub to say that it is there
POLL_S = 0.2  # seconds between two looks at how much has arrived
_SHA256 = re.compile("[0-9a-f]{64}")


def fetch(name: str, progress: Progress | None = None) -> Path:
    """Have the model on this machine; nothing is downloaded when it is already there and whole.

    Args:
        name: of the catalog.
        progress: called with (file name, bytes so far, bytes in all).
    Returns:
        the GGUF file of a teacher, or the folder of a backbone.
    Raises:
        UserError: if the name is not known, the model comes with a package that is not installed, the hub cannot be reached or
            refuses, or what arrived is not what the catalog, the hub or the first fetch says. A finished part is kept.
    """
    catalog = load_catalog()
    entry = catalog.get(name)
    if entry is None:
        raise UserError(f"{name!r} is not a known model; known: {', '.join(catalog)}")
    if isinstance(entry.source, Package):
        return _answer(entry, located(entry))
    folder = places.cache_folder() / entry.name
    if not all((folder / file).is_file() for file in entry.files) or set(places.recorded_sums(folder)) < set(entry.files):
        sums = {file: _download(entry, entry.source, folder, file, progress) for file in entry.files}
        places.record_sums(folder, sums)
    return _answer(entry, folder)


def _answer(entry: Entry, folder: Path) -> Path:
    """What a caller opens; raises FormatError if it is not whole."""
    if entry.kind == "teacher":
        gguf.read_header(folder / entry.file)
        return folder / entry.file
    encoder_weights(folder)
    return folder


def _download(entry: Entry, source: Hub, folder: Path, file: str, progress: Progress | None) -> str:
    """Download one file into the folder; returns its SHA-256."""
    hub = _hub()
    try:
        url = hub.hf_hub_url(source.repository, file, revision=source.revision)
        hub.utils.get_session().head(url, timeout=TIMEOUT_S)  # fails at once where there is no way; the next call tries for long
        remote = hub.get_hf_file_metadata(url)
        with _watched(folder, remote.etag, file, remote.size or 0, progress):
            path = hub.hf_hub_download(source.repository, file, revision=source.revision, local_dir=folder)
    except OSError as error:  # every error of the hub's client and of requests is one
        failure = f"{entry.name}: {file} could not be fetched: {_reason(error)}"
        raise UserError(f"{failure}; try again, it goes on where it stopped; or, {by_hand(entry)}") from error
    found = digest.of_file(Path(path))
    said_by_hub = remote.etag if _SHA256.fullmatch(remote.etag or "") else None  # large files are named by their SHA-256
    wanted = (entry.sha256 if file == entry.file else None) or places.recorded_sums(folder).get(file) or said_by_hub
    if wanted and found != wanted:
        raise UserError(f"{path}: SHA-256 is {found[:12]}…, expected {wanted[:12]}…; delete the file and fetch it again")
    return found


def _hub() -> Any:
    """The hub's client, set up to download over plain HTTP, where a broken transfer goes on from its last byte."""
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
def _watched(folder: Path, etag: str | None, file: str, total: int, progress: Progress | None) -> Iterator[None]:
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
    """The failure in a few words."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"the hub answered {response.status_code}"
    if error.strerror:
        return error.strerror
    return "the hub cannot be reached"
