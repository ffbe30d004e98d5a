"""The listening socket: TCP on an address of this machine, or a Unix socket at a path."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import stat
from pathlib import Path

from potstill.contract.errors import UserError

BACKLOG = 2048  # connections that the kernel queues while the process is busy


def listen_tcp(host: str, port: int, *, open_to_others: bool) -> socket.socket:
    """Open a listening TCP socket.

    Args:
        host: a name or address of this machine.
        port: from 0 to 65535; 0 takes any free one.
        open_to_others: allow addresses other than loopback.
    Raises:
        UserError: if the address is in use, unknown, or open to other machines without permission.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise UserError(f"{host}: unknown host ({error}); use a name or address of this machine") from error
    family, kind, protocol, _, address = found[0]
    if not open_to_others and not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback:
        raise UserError(
            f"{host} is open to other machines; require a key with --keys FILE or POTSTILL_KEYS, use 127.0.0.1, "
            "or allow it without a key with --insecure"
        )
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        in_use = error.errno == errno.EADDRINUSE
        reason = "is in use; choose another one with --port" if in_use else f"cannot be used: {error.strerror}"
        raise UserError(f"port {port} on {host} {reason}") from error
    return listener


def listen_unix(path: str | Path) -> socket.socket:
    """Open a listening Unix socket that only this user may connect to; a stale socket file at the path is replaced.

    Raises:
        UserError: if the path is another kind of file, another server listens there, or the path cannot be used.
    """
    path = Path(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        _remove_stale(path)
        listener.bind(str(path))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise UserError(f"{path}: cannot listen there: {error.strerror or error}") from error
    except UserError:
        listener.close()
        raise
    finally:
        os.umask(mask)
    return listener


def address_text(listener: socket.socket) -> str:
    """The address as a URL, or `unix:PATH`."""
    name = listener.getsockname()
    if isinstance(name, str):
        return f"unix:{name}"
    host, port = name[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _remove_stale(path: Path) -> None:
    """Remove a socket file that no server listens on; raises UserError."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise UserError(f"{path}: exists and is not a socket; choose another path for --unix")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise UserError(f"{path}: another server is listening there; stop it, or choose another path for --unix")
