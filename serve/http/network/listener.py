"""The socket that clients connect to: an address of this machine, or a path."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import stat
from pathlib import Path

from potstill.contract.errors import UserError

BACKLOG = 2048  # connections that the kernel holds while the process is busy


def listen_tcp(host: str, port: int, *, open_to_others: bool) -> socket.socket:
    """A listening TCP socket.

    Args:
        host: a name or address of this machine.
        port: 0 takes any free one.
        open_to_others: whether an address that is not loopback may be used.
    Raises:
        UserError: if the address is taken, unknown, or lets others in against the wish.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise UserError(f"{host}: no such host ({error}); use a name or address of this machine") from error
    family, kind, protocol, _, address = found[0]
    if not open_to_others and not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback:
        raise UserError(
            f"{host} lets other machines in; give a key with --keys FILE or the variable POTSTILL_KEYS, use 127.0.0.1, "
            "or allow it without a key with --insecure"
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
        raise UserError(f"port {port} on {host} {reason}") from error
    return listener


def listen_unix(path: Path) -> socket.socket:
    """A listening Unix socket that only this user may connect to; one that nobody answers any more is replaced.

    Raises:
        UserError: if something else lies there, a server answers there, or the path cannot be used.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        _clear(path)
        listener.bind(str(path))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise UserError(f"{path}: cannot be listened at: {error.strerror or error}") from error
    except UserError:
        listener.close()
        raise
    finally:
        os.umask(mask)
    return listener


def address_text(listener: socket.socket) -> str:
    """The address as a person would type it."""
    name = listener.getsockname()
    if isinstance(name, str):
        return f"unix:{name}"
    host, port = name[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _clear(path: Path) -> None:
    """Remove a socket that was left behind; raises UserError."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise UserError(f"{path}: is there and is no socket; choose another path for --unix")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise UserError(f"{path}: another server answers there; stop it, or choose another path for --unix")
