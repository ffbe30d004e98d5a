"""Which teachers of the catalog fit into a machine's memory, with what a run of usual size needs.

For a teacher that is here, the need is computed from its header. For one that is not, it is estimated from the size of its file.
"""

from __future__ import annotations

from dataclasses import dataclass

from potstill.contract.errors import FormatError
from potstill.models import gguf
from potstill.models.catalog import Entry, has_files, load_catalog, place
from potstill.models.memory import memory_needed

N_PATHS = 8  # live at once
N_TOKENS = 4096  # in the cache, of prompt and paths together: a prompt of 2,000 tokens, and 250 for each path
SYSTEM_SHARE, SYSTEM_BYTES = 0.2, 10**9  # what the system and other programs keep: this share of the memory, at least so much

# For a teacher whose header is not here. A cache of a quarter of the weights is more than current models of 3B parameters and up
# need at this length, as few of their heads are cached; models of 2024 that cache every head need more.
CACHE_SHARE = 0.25
WORK_BYTES = 200 * 10**6  # logits and intermediate results of a decode


@dataclass(frozen=True)
class Fit:
    """A teacher, and the memory that it needs."""

    entry: Entry
    here: bool  # whether its file is on this machine
    bytes: int  # weights, cache and work space
    estimated: bool  # from the size of the file; otherwise computed from its header


def room_bytes(memory_bytes: int) -> int:
    """What a machine with so much memory leaves for a teacher; 0 if the system takes all."""
    return max(0, memory_bytes - max(int(SYSTEM_SHARE * memory_bytes), SYSTEM_BYTES))


def fitting(memory_bytes: int) -> list[Fit]:
    """The teachers that fit, in the catalog's order, without those that another one has replaced, unless they are here.

    Args:
        memory_bytes: of the machine, all of it; what is free at this moment says little about a run of hours.
    Raises:
        FormatError: if the catalog is malformed.
    """
    found = (need(entry) for entry in load_catalog().values() if entry.kind == "teacher")
    room = room_bytes(memory_bytes)
    return [fit for fit in found if fit and fit.bytes <= room and (fit.here or not fit.entry.newer)]


def need(entry: Entry) -> Fit | None:
    """The memory that a teacher needs; None if neither its file nor its size is known."""
    folder = place(entry)
    if folder is not None and has_files(entry, folder):
        try:
            header = gguf.read_header(folder / entry.file)
        except FormatError:
            pass  # an unfinished or damaged file, which its use will refuse
        else:
            return Fit(entry, True, memory_needed(header, N_TOKENS, n_sequences=N_PATHS + 1).total_bytes, estimated=False)
    if entry.size_mb is None:
        return None
    weights = entry.size_mb * 10**6
    cache = entry.cell_kb * 1000 * N_TOKENS if entry.cell_kb else CACHE_SHARE * weights
    return Fit(entry, False, int(weights + cache) + WORK_BYTES, estimated=True)
