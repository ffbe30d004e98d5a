"""One HTTP process around one bundle: uvicorn with httptools and uvloop."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from contract.cores import usable_cores
from contract.errors import UserError
from serve.app import create_app
from serve.classifier import Classifier

BACKLOG = 2048  # connections that the kernel holds while the process is busy


@dataclass(frozen=True)
class ServeConfig:
    """Where and how to listen."""

    host: str = "127.0.0.1"
    port: int = 8080  # 0: any free one
    workers: int | None = None  # texts answered at once; None: the usable cores
    insecure: bool = False  # whether other machines may be let in, without a key and without encryption


def serve(bundle: Path, config: ServeConfig, announce: Callable[[str], None] | None = None) -> None:
    """Serve a bundle until the process is told to stop; what is being answered then is finished first.

    Args:
        bundle: the folder.
        config: where to listen.
        announce: is given one line, with the address, once connections are taken.
    Raises:
        UserError: if the address cannot be used or would let other machines in, or the bundle is refused.
    """
    with listen(config) as listener, Classifier.open(bundle) as classifier:
        workers = config.workers or usable_cores()
        app = create_app(classifier, workers=workers)
        settings = uvicorn.Config(
            app, http="httptools", loop="uvloop", ws="none", log_config=None, access_log=False, server_header=False
        )
        if announce is not None:
            host, port = listener.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            announce(
                f"{classifier.manifest.name} answers at http://{shown}:{port}/predict with {workers} workers; stop it with Ctrl-C"
            )
        try:
            uvicorn.Server(settings).run(sockets=[listener])
        except KeyboardInterrupt:
            pass  # uvicorn has finished its work and repeats the signal for its caller


def listen(config: ServeConfig) -> socket.socket:
    """A listening socket; raises UserError if the address is taken, unknown, or open to others without `insecure`."""
    try:
        found = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise UserError(f"{config.host}: no such host ({error}); use a name or address of this machine") from error
    family, kind, protocol, _, address = found[0]
    if not config.insecure and not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback:
        raise UserError(
            f"{config.host} lets other machines in, and the server has no key yet; use 127.0.0.1, or allow it with --insecure"
        )
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        taken = error.errno == errno.EADDRINUSE
        reason = "is taken; choose another one with --port" if taken else f"cannot be used: {error.strerror}"
        raise UserError(f"port {config.port} on {config.host} {reason}") from error
    return listener
