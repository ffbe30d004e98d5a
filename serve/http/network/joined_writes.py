"""The head of a reply, held back until its body is there, so that both are sent as one piece.

uvicorn writes them one after the other, and each goes out at once: two system calls, and a client that wakes up for the head only
to wait for the body.
"""

from __future__ import annotations

import asyncio
from typing import Any

END_OF_HEAD = b"\r\n\r\n"


class JoinedWrites:
    """A transport that holds a head until more is written, or the turn ends; all else is the transport's own."""

    __slots__ = ("_held", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        """Nothing is held."""
        self._transport, self._loop = transport, loop
        self._held: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Send it with what is held, or hold it."""
        if not self._held and data.endswith(END_OF_HEAD):
            self._loop.call_soon(self.flush)  # a head that no body follows
            self._held.append(data)
            return
        self._held.append(data)
        self.flush()

    def flush(self) -> None:
        """Send what is held now."""
        if self._held:
            data = b"".join(self._held)
            self._held.clear()
            if not self._transport.is_closing():
                self._transport.write(data)

    def close(self) -> None:
        """Close when all is sent."""
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        """Close at once; what is held is lost."""
        self._held.clear()
        self._transport.abort()

    def get_write_buffer_size(self) -> int:
        """Bytes that are not with the kernel yet."""
        return self._transport.get_write_buffer_size() + sum(map(len, self._held))

    def __getattr__(self, name: str) -> Any:
        """The transport's own."""
        return getattr(self._transport, name)
