"""Serving bundles: one process, or several on one port."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from potstill.contract.system.cores import usable_cores
from potstill.serve.http.build import build
from potstill.serve.http.hosting.bundle_registry import Wanted, parse_wanted
from potstill.serve.http.keys import read_keys
from potstill.serve.http.limits import Limits
from potstill.serve.http.network.listener import listen, listen_at, where
from potstill.serve.http.network.server import Server
from potstill.serve.http.network.supervisor import Order, supervise


@dataclass(frozen=True)
class ServeConfig:
    """Where and how to listen."""

    host: str = "127.0.0.1"
    port: int = 8080  # 0: any free one
    unix: Path | None = None  # listen at this path instead
    processes: int = 1  # on the one port
    workers: int | None = None  # texts answered at once by each process; None: the usable cores, shared out
    insecure: bool = False  # whether other machines may be let in, without a key and without encryption
    keys: Path | None = None  # a file of keys; None: those of the environment, if any
    otlp: str | None = None  # a collector's address for traces; None: nowhere
    limits: Limits = field(default_factory=Limits)


_SERVE = ServeConfig()


def serve(
    bundles: Sequence[str | Path | Wanted], config: ServeConfig = _SERVE, announce: Callable[[str], None] | None = None
) -> None:
    """Serve bundles until the process is told to stop; what is accepted by then is answered first.

    Args:
        bundles: at least one folder, or `NAME=FOLDER`; the first one answers where a request names none.
        config: where and how.
        announce: is given one line, with the address, once connections are taken.
    Raises:
        UserError: if the address cannot be used or would let other machines in, or a bundle or the keys are refused.
    """
    wanted = [one if isinstance(one, Wanted) else parse_wanted(str(one)) for one in bundles]
    n_workers = config.workers or max(1, usable_cores() // config.processes)
    with open_listener(config) as listener:
        place = where(listener)

        def say() -> None:
            """Announce."""
            if announce is not None:
                names = ", ".join(one.name or one.folder.name for one in wanted)
                many = f"{config.processes} processes of " if config.processes > 1 else ""
                announce(f"{names} at {place} with {many}{n_workers} workers; stop it with Ctrl-C")

        if config.processes > 1:
            supervise(listener, _order(wanted, config, n_workers), say)
            return
        app = build(wanted, config.limits, n_workers, config.keys, config.otlp)
        say()
        try:
            Server(app, config.limits).run(sockets=[listener])
        except KeyboardInterrupt:
            pass  # uvicorn has finished its work and repeats the signal for its caller


def open_listener(config: ServeConfig) -> socket.socket:
    """The listening socket; raises UserError."""
    if config.unix is not None:
        return listen_at(config.unix)
    return listen(config.host, config.port, open_to_others=config.insecure or len(read_keys(config.keys)) > 0)


def _order(wanted: list[Wanted], config: ServeConfig, n_workers: int) -> Order:
    """What the children are told; the descriptors are filled in later."""
    return Order(
        bundles=[(str(one.folder), one.name) for one in wanted],
        listener=-1,
        counts=-1,
        n_processes=config.processes,
        index=0,
        workers=n_workers,
        keys=None if config.keys is None else str(config.keys),
        otlp=config.otlp,
        limits=config.limits,
    )
