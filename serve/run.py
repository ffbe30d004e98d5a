"""Serve bundles over HTTP with one process, or with several that share a port."""

from __future__ import annotations

import socket
from collections.abc import Callable

from potstill.contract.system.cores import usable_cores
from potstill.serve.http.application.api_keys import read_keys
from potstill.serve.http.application.asgi_app import build_application
from potstill.serve.http.config import BundleSpec, ChildConfig, ServeConfig
from potstill.serve.http.network.listener import address_text, listen_tcp, listen_unix
from potstill.serve.http.network.server import HttpServer
from potstill.serve.http.network.supervisor import supervise


def serve(bundles: list[BundleSpec], config: ServeConfig, announce: Callable[[str], None] | None = None) -> None:
    """Serve bundles until SIGTERM or SIGINT; requests accepted by then are answered first.

    Args:
        bundles: at least one; the first one answers requests that name none.
        config: where to listen, and with how many processes.
        announce: called with one line, with the address, once connections are accepted.
    Raises:
        UserError: if the address cannot be used or is open to other machines, or a bundle or the keys are invalid.
    """
    n_workers = config.workers or max(1, usable_cores() // config.processes)
    with open_listener(config) as listener:
        place = address_text(listener)

        def announce_address() -> None:
            """Announce what is served, and where."""
            if announce is not None:
                names = ", ".join(one.name or one.folder.name for one in bundles)
                many = f"{config.processes} processes of " if config.processes > 1 else ""
                announce(f"{names} at {place} with {many}{n_workers} workers; stop it with Ctrl-C")

        if config.processes > 1:
            supervise(listener, _child_config(bundles, config, n_workers), announce_address)
            return
        app = build_application(bundles, config.limits, n_workers, config.keys, config.otlp)
        announce_address()
        try:
            HttpServer(app, config.limits).run(sockets=[listener])
        except KeyboardInterrupt:
            pass  # uvicorn has shut down in order, and raises the signal again for its caller


def open_listener(config: ServeConfig) -> socket.socket:
    """Open the listening socket; raises UserError as `listen_tcp` and `listen_unix`."""
    if config.unix is not None:
        return listen_unix(config.unix)
    return listen_tcp(config.host, config.port, open_to_others=config.insecure or len(read_keys(config.keys)) > 0)


def _child_config(bundles: list[BundleSpec], config: ServeConfig, n_workers: int) -> ChildConfig:
    """Settings of the child processes; the supervisor fills in the descriptors."""
    return ChildConfig(
        bundles=[(str(one.folder), one.name) for one in bundles],
        listener=-1,
        counts=-1,
        n_processes=config.processes,
        index=0,
        workers=n_workers,
        keys=None if config.keys is None else str(config.keys),
        otlp=config.otlp,
        limits=config.limits,
    )
