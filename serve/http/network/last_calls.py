"""Closing a listening socket without losing those who have connected already.

A connection is made by the kernel, before any process takes it. When the listening socket closes, the kernel resets those that
nobody took, and a request that was on its way is lost. So new ones are kept out first: at a TCP socket by a filter that drops
the first packet of a connection (the client's kernel sends it again a second later, and is refused then), at a Unix socket by
removing the path. What is through by then is taken and answered, and only then is the socket closed.
"""

from __future__ import annotations

import ctypes
import select
import socket
import struct
from pathlib import Path

SETTLE_S = 0.05  # in which a connection that has begun is complete, and taken

_SO_ATTACH_FILTER = 26  # Linux, asm-generic/socket.h
# Classic BPF over the TCP header: flags byte, its SYN and ACK bits; SYN alone is dropped, all else passes.
_ONLY_KNOWN = ((0x30, 0, 0, 13), (0x54, 0, 0, 0x12), (0x15, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))


def is_awaited(listener: socket.socket) -> bool:
    """Whether somebody has connected whom no process has taken yet."""
    return bool(select.select([listener], [], [], 0)[0])


def keep_newcomers_out(listener: socket.socket) -> bool:
    """Let no new connection begin at a listening socket; tells whether this machine can do that. Those that have begun go on."""
    if listener.family == socket.AF_UNIX:
        Path(str(listener.getsockname())).unlink(missing_ok=True)
        return True
    code = b"".join(struct.pack("=HBBI", *step) for step in _ONLY_KNOWN)
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("HP", len(_ONLY_KNOWN), ctypes.addressof(buffer))
    try:
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    except OSError:
        return False
    return True
