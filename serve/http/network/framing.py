"""Where a request ends: what its headers say about its body, and the chunks of a chunked one.

The parser (llhttp) is given one head at a time and never more: it would parse every request of a packet before the first is
answered, keep trailer fields as headers, and take the body of a request that offers another protocol for the next request.
Source: RFC 9112, sections 3.2 (Host), 6 (length of a body), 7.1 (chunks); RFC 9110, section 7.8 (an upgrade may be ignored).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_LINE_BYTES = 1024  # of a chunk's size with its extensions
MAX_TRAILER_BYTES = 8192  # of all trailer fields together; they are read and dropped
MAX_CHUNKS = 250  # decoded in one turn of the event loop
_UPGRADE = re.compile(rb"\r\nupgrade:[^\r\n]*(?:\r\n[ \t][^\r\n]*)*(?=\r\n)", re.IGNORECASE)
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,12})[ \t]*(?:;[^\r\n]*)?")
_LENGTH = re.compile(rb"[0-9]{1,15}")


class Malformed(Exception):
    """A request that breaks the rules of HTTP; the connection cannot go on after it."""

    def __init__(self, message: str, status: bytes = b"400 Bad Request") -> None:
        """Args: message for the client, without quotation marks; status line."""
        self.status, self.message = status, message
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class BodyLength:
    """How the end of a body is found."""

    n_bytes: int = 0
    chunked: bool = False


NO_BODY, CHUNKED = BodyLength(), BodyLength(chunked=True)


def without_upgrade(head: bytes) -> bytes:
    """The head without its offer of another protocol, which is declined by ignoring it. Args: head, with its empty line."""
    return _UPGRADE.sub(b"", head) if b"\nupgrade" in head.lower() else head


def body_length(headers: list[tuple[bytes, bytes]], version: str) -> BodyLength:
    """How long the body of a request is.

    Args:
        headers: names in lower case.
        version: 1.0 or 1.1.
    Raises:
        Malformed: if Host or the length is missing, repeated or contradictory, or the coding is not `chunked`.
    """
    n_hosts, length, coding = 0, None, None
    for name, value in headers:
        if name == b"host":
            n_hosts += 1
        elif name == b"content-length":
            if length is not None or not _LENGTH.fullmatch(value):
                raise Malformed("Content-Length must be one number of bytes")
            length = int(value)
        elif name == b"transfer-encoding":
            coding = value if coding is None else coding + b"," + value
    if n_hosts > 1 or (not n_hosts and version != "1.0"):
        raise Malformed("a request needs one Host header")
    if coding is None:
        return BodyLength(length) if length else NO_BODY
    if length is not None or version == "1.0":
        raise Malformed("Transfer-Encoding excludes Content-Length, and needs HTTP/1.1")
    if coding.strip().lower() != b"chunked":
        raise Malformed("the only transfer coding is chunked; compress with Content-Encoding", b"501 Not Implemented")
    return CHUNKED


class ChunkDecoder:
    """Decodes a chunked body piece by piece; extensions and trailer fields are dropped."""

    def __init__(self) -> None:
        """Begin before the first chunk."""
        self.complete = False
        self.stopped = False  # after as many chunks as one turn decodes
        self._left = 0  # bytes of the current chunk
        self._after_data = False  # its line break comes next
        self._in_trailer = False
        self._n_trailer_bytes = 0

    def decode(self, data: bytes, at: int) -> tuple[bytes, int]:
        """Decode up to MAX_CHUNKS chunks.

        Args:
            data: what has arrived.
            at: where the undecoded part begins.
        Returns:
            (decoded bytes, where the undecoded rest begins); the rest needs more data, or another call.
        Raises:
            Malformed: if a size, a line break or the trailer is not as it must be.
        """
        pieces: list[bytes] = []
        n_chunks = 0
        while at < len(data) and not self.complete and n_chunks < MAX_CHUNKS:
            if self._left:
                piece = data[at : at + self._left]
                pieces.append(piece)
                self._left -= len(piece)
                at += len(piece)
                self._after_data = not self._left
                continue
            end = data.find(b"\r\n", at, at + MAX_LINE_BYTES + 2)
            if end < 0:
                if len(data) - at > MAX_LINE_BYTES:
                    raise Malformed("a line between the chunks of the body is too long")
                break
            self._read_line(data[at:end])
            at = end + 2
            n_chunks += 1
        self.stopped = n_chunks >= MAX_CHUNKS
        return b"".join(pieces), at

    def _read_line(self, line: bytes) -> None:
        """Read a line outside the data: the end of a chunk, a size, a trailer field; raises Malformed."""
        if self._after_data:
            if line:
                raise Malformed("a chunk of the body is longer than its size")
            self._after_data = False
        elif self._in_trailer:
            self._n_trailer_bytes += len(line) + 2
            if self._n_trailer_bytes > MAX_TRAILER_BYTES:
                message = f"the trailer is longer than {MAX_TRAILER_BYTES} bytes"
                raise Malformed(message, b"431 Request Header Fields Too Large")
            self.complete = not line
        else:
            match = _SIZE.fullmatch(line)
            if match is None:
                raise Malformed("the size of a chunk must be a hexadecimal number")
            self._left = int(match[1], 16)
            self._in_trailer = not self._left
