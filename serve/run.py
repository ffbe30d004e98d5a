"""Serving bundles: one process, or several on one port."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from contract.cores import usable_cores
from serve.app import Application, Parts
from serve.bundles import Bundles, Wanted
from serve.journal import Journal
from serve.keys import Keys, read_keys
from serve.limits import Limits
from serve.listener import listen, listen_at, where
from serve.measures import Measures
from serve.server import Server


@dataclass(frozen=True)
class ServeConfig:
    """Where and how to listen."""

    host: str = "127.0.0.1"
    port: int = 8080  # 0: any free one
    unix: Path | None = None  # listen at this path instead
    workers: int | None = None  # texts answered at once by one process; None: the usable cores
    insecure: bool = False  # whether other machines may be let in, without a key and without encryption
    keys: Path | None = None  # a file of keys; None: those of the environment, if any
    limits: Limits = field(default_factory=Limits)


def serve(wanted: list[Wanted], config: ServeConfig, announce: Callable[[str], None] | None = None) -> None:
    """Serve bundles until the process is told to stop; what is accepted by then is answered first.

    Args:
        wanted: the bundles, at least one.
        config: where and how.
        announce: is given one line, with the address, once connections are taken.
    Raises:
        UserError: if the address cannot be used or would let other machines in, or a bundle or the keys are refused.
    """
    keys = read_keys(config.keys)
    with open_listener(config, keys) as listener:
        app = Application(
            Parts(
                Bundles.open(wanted),
                config.limits,
                config.workers or usable_cores(),
                keys,
                Journal(),
                Measures(),
                program_version(),
            )
        )
        if announce is not None:
            names = ", ".join(hosted.name for hosted in app.parts.bundles.all)
            announce(f"{names} at {where(listener)} with {app.parts.n_workers} workers; stop it with Ctrl-C")
        try:
            Server(app, config.limits).run(sockets=[listener])
        except KeyboardInterrupt:
            pass  # uvicorn has finished its work and repeats the signal for its caller


def open_listener(config: ServeConfig, keys: Keys) -> socket.socket:
    """The listening socket; raises UserError."""
    if config.unix is not None:
        return listen_at(config.unix)
    return listen(config.host, config.port, open_to_others=config.insecure or len(keys) > 0)


def program_version() -> str:
    """The version of potstill that is installed."""
    try:
        return metadata.version("potstill")
    except metadata.PackageNotFoundError:
        return "unknown"
