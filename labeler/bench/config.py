"""What a benchmark of labelling measures, and on how much data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from potstill.labeler.config import LocalConfig, Pack

PACKS: dict[str, Pack] = {"engine": "auto", "same_file": "as-is", "q8_0": "Q8_0"}  # packing of the parts with `cot` on our engine


PARTS = ("loop", *PACKS, "server", "direct", "efficiency", "memory", "adaptive")


ON_THE_CPU = LocalConfig(n_gpu_layers=0)


@dataclass(frozen=True)
class LabelBenchConfig:
    """The parts to measure, and on how much data."""

    n: int = 64  # texts
    parts: tuple[str, ...] = ()  # of PARTS; empty: all of them, the server only if its program is given
    server: Path | None = None  # the program of llama.cpp's own server
    threads: int | None = None  # CPU threads of every part; None: every usable core
    n_paths: int = 8  # per text; in `direct` as many prompt variants
    n_per_turn: int = 16  # texts per turn
    teacher: str = "smollm2-135m-instruct"
    local: LocalConfig = ON_THE_CPU  # of our engine, apart from threads and cache; the peers have no GPU

    @property
    def chosen(self) -> tuple[str, ...]:
        """The parts to measure."""
        return self.parts or tuple(part for part in PARTS if part != "server" or self.server)
