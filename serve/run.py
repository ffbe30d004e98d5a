"""Serving bundles: one process, or several on one port."""

from __future__ import annotations

import socket
from collections.abc import Callable

from potstill.contract.system.cores import usable_cores
from potstill.serve.http.application.api_keys import read_keys
from potstill.serve.http.application.asgi_app import build_application
from potstill.serve.http.config import BundleSpec, ServeConfig
from potstill.serve.http.network.listener import address_text, listen_tcp, listen_unix
from potstill.serve.http.network.server import HttpServer
from potstill.serve.http.network.supervisor import ChildConfig, supervise


def serve(wanted: list[BundleSpec], config: ServeConfig, announce: Callable[[str], None] | None = None) -> None:
    """Serve bundles until the process is told to stop; what is accepted by then is answered first.

    Args:
        wanted: the bundles, at least one.
        config: where and how.
        announce: is given one line, with the address, once connections are taken.
    Raises:
        UserError: if the address cannot be used or would let other machines in, or a bundle or the keys are refused.
    """
    n_workers = config.workers or max(1, usable_cores() // config.processes)
    with open_listener(config) as listener:
        place = address_text(listener)

        def say() -> None:
            """Announce."""
            if announce is not None:
                names = ", ".join(one.name or one.folder.name for one in wanted)
                many = f"{config.processes} processes of " if config.processes > 1 else ""
                announce(f"{names} at {place} with {many}{n_workers} workers; stop it with Ctrl-C")

        if config.processes > 1:
            supervise(listener, _order(wanted, config, n_workers), say)
            return
        app = build_application(wanted, config.limits, n_workers, config.keys, config.otlp)
        say()
        try:
            HttpServer(app, config.limits).run(sockets=[listener])
        except KeyboardInterrupt:
            pass  # uvicorn has finished its work and repeats the signal for its caller


def open_listener(config: ServeConfig) -> socket.socket:
    """The listening socket; raises UserError."""
    if config.unix is not None:
        return listen_unix(config.unix)
    return listen_tcp(config.host, config.port, open_to_others=config.insecure or len(read_keys(config.keys)) > 0)


def _order(wanted: list[BundleSpec], config: ServeConfig, n_workers: int) -> ChildConfig:
    """What the children are told; the descriptors are filled in later."""
    return ChildConfig(
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
