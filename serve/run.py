"""Serve bundles over HTTP with one process, or with several that share a port."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from potstill.contract.errors import UserError
from potstill.contract.system.machine import usable_cores
from potstill.serve.http.application.access import AccessPolicy
from potstill.serve.http.application.api_keys import read_keys
from potstill.serve.http.application.asgi_app import build_application
from potstill.serve.http.config import BundleSpec, ChildConfig, ServeConfig, parse_bundle_spec
from potstill.serve.http.network.listener import address_text, listen_tcp, listen_unix
from potstill.serve.http.network.server import EarlySignals, HttpServer, Stopped
from potstill.serve.http.network.supervisor import supervise

_SERVE = ServeConfig()


def serve(
    bundles: Sequence[str | Path | BundleSpec], config: ServeConfig = _SERVE, announce: Callable[[str], None] | None = None
) -> None:
    """Serve bundles until SIGTERM or SIGINT; requests accepted by then are answered first.

    Args:
        bundles: at least one folder, or `NAME=FOLDER`; the first one answers requests that name none.
        config: where to listen, and with how many processes.
        announce: called with one line, with the address, once connections are accepted.
    Raises:
        UserError: if the address cannot be used or is open to other machines, or a bundle or the keys are invalid, or several
            processes are wanted and the system has no memory that they can share.
    """
    if config.processes > 1 and not hasattr(os, "memfd_create"):
        raise UserError(
            "--processes: several processes share memory that only Linux has; leave it out, and state --workers instead"
        )
    specs = [replace(spec, trust=spec.trust or config.trust) for spec in map(_spec, bundles)]
    n_workers = config.workers or max(1, usable_cores() // config.processes)
    with open_listener(config) as listener:
        place = address_text(listener)

        def announce_address() -> None:
            """Announce what is served, and where."""
            if announce is not None:
                names = ", ".join(one.name or one.folder.name for one in specs)
                many = f"{config.processes} processes of " if config.processes > 1 else ""
                workers = f"{n_workers} worker{'s' * (n_workers > 1)}"
                announce(f"{names} at {place} with {many}{workers}; stop it with Ctrl-C")

        if config.processes > 1:
            supervise(listener, _child_config(specs, config, n_workers), announce_address)
            return
        try:
            with EarlySignals() as early:
                access = access_policy(config)
                app = build_application(
                    specs, config.limits, n_workers, config.keys, config.otlp, access=access, teacher=config.teacher
                )
                HttpServer(app, config.limits, announce=announce_address, early=early).run(sockets=[listener])
        except (KeyboardInterrupt, Stopped):
            pass  # uvicorn has shut down in order, and raises the signal again for its caller


def open_listener(config: ServeConfig) -> socket.socket:
    """Open the listening socket; raises UserError as `listen_tcp` and `listen_unix`."""
    if config.unix is not None:
        return listen_unix(config.unix)
    return listen_tcp(config.host, config.port, open_to_others=config.insecure or len(read_keys(config.keys)) > 0)


def access_policy(config: ServeConfig) -> AccessPolicy:
    """The hosts and origins that a server accepts: without keys on loopback only its own names, as a web page could use any other.

    Raises:
        UserError: if the keys are invalid.
    """
    origins = frozenset(config.allow_origin)
    if config.unix is not None or len(read_keys(config.keys)) > 0 or (config.insecure and not config.allow_host):
        return AccessPolicy(None, origins)
    return AccessPolicy(frozenset(name.lower() for name in (config.host, *config.allow_host)), origins)


def _spec(bundle: str | Path | BundleSpec) -> BundleSpec:
    """A bundle to serve; only a string may have the form `NAME=FOLDER`."""
    if isinstance(bundle, str):
        return parse_bundle_spec(bundle)
    return BundleSpec(bundle) if isinstance(bundle, Path) else bundle


def _child_config(specs: list[BundleSpec], config: ServeConfig, n_workers: int) -> ChildConfig:
    """Settings of the child processes; the supervisor fills in the descriptors."""
    access = access_policy(config)
    return ChildConfig(
        bundles=[(str(one.folder), one.name) for one in specs],
        versions=[],
        listener=-1,
        counts=-1,
        n_processes=config.processes,
        index=0,
        workers=n_workers,
        keys=None if config.keys is None else str(config.keys),
        otlp=config.otlp,
        trust=config.trust,
        hosts=None if access.hosts is None else sorted(access.hosts),
        origins=sorted(access.origins),
        limits=config.limits,
        teacher=config.teacher,
    )
