"""Settings of the benchmarks of a bundle and of a server. Importing this file loads no onnxruntime."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class BundleBenchConfig:
    """Settings of a bundle's benchmark."""

    texts: Path | None = None  # any file of texts; None: the bundle's golden texts
    n: int = 300  # timed answers for the texts as given, and for each length; texts are repeated or dropped to this number
    n_warm_up: int = 10  # answers before timing starts
    n_starts: int = 3  # fresh processes; start-up time and memory are their medians
    threads: int = 1  # cores that one answer may use
    trust: bool = False  # open every bundle whatever operators and tokenizer parts are in it


@dataclass(frozen=True)
class ServerBenchConfig:
    """Settings of a server's benchmark."""

    bundle: Path | None = None  # of the server at a URL; without it nothing is compared in process
    texts: Path | None = None  # None: the bundle's golden texts
    seconds: float = 5.0  # for each rate of the ladder, and for each round of the ceiling
    overload_s: float = 10.0
    n_alone: int = 300  # requests on one connection
    n_soak: int = 5000  # requests over which memory growth is measured
    n_signals: int = 0  # number of SIGHUP, and of SIGTERM, under load
    processes: int = 1  # of a server that is started
    trust: bool = False  # open the bundle whatever operators and tokenizer parts are in it, here and in servers that are started
