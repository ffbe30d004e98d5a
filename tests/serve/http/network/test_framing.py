"""Where a request ends: Host, lengths, chunks, trailers, offers of other protocols."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.serve.http.network.framing import (
    CHUNKED,
    MAX_CHUNKS,
    MAX_LINE_BYTES,
    MAX_TRAILER_BYTES,
    NO_BODY,
    BodyLength,
    ChunkDecoder,
    Malformed,
    body_length,
    without_upgrade,
)

HOST = (b"host", b"localhost")


def decoded(pieces):
    """(body, whether it is complete, bytes after it) of a chunked body that arrives in pieces."""
    decoder, unread, body = ChunkDecoder(), b"", b""
    for piece in pieces:
        unread += piece
        while True:
            found, at = decoder.decode(unread, 0)
            body, moved, unread = body + found, at, unread[at:]
            if not moved or decoder.complete:
                break
    return body, decoder.complete, unread


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=8), st.integers(1, 30))
def test_a_chunked_body_is_the_same_however_its_bytes_arrive(chunks, step):
    wire = b"".join(b"%x;why=not\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\nX-Sum: 1\r\n\r\n"
    pieces = [wire[at : at + step] for at in range(0, len(wire), step)]
    assert decoded([*pieces, b"GET /"]) == (b"".join(chunks), True, b"GET /")


def test_many_tiny_chunks_are_decoded_in_several_turns():
    decoder = ChunkDecoder()
    body, at = decoder.decode(b"1\r\na\r\n" * 3 * MAX_CHUNKS, 0)
    assert 0 < len(body) <= MAX_CHUNKS and at < 18 * MAX_CHUNKS


@pytest.mark.parametrize(
    ("wire", "status", "message"),
    [
        (b"x\r\n", b"400", "the size of a chunk must be a hexadecimal number"),
        (b"-1\r\n", b"400", "the size of a chunk must be a hexadecimal number"),
        (b"1\r\nab\r\n", b"400", "a chunk of the body is longer than its size"),
        (b"1" + b";" * (MAX_LINE_BYTES + 1), b"400", "a line between the chunks of the body is too long"),
        (b"0\r\n" + b"X: y\r\n" * MAX_TRAILER_BYTES, b"431", f"the trailer is longer than {MAX_TRAILER_BYTES} bytes"),
    ],
)
def test_a_broken_chunk_ends_the_connection_with_a_reason(wire, status, message):
    with pytest.raises(Malformed) as refused:
        decoded([wire])
    assert refused.value.message == message and refused.value.status.startswith(status)


@pytest.mark.parametrize(
    ("headers", "version", "expected"),
    [
        ([HOST], "1.1", NO_BODY),
        ([], "1.0", NO_BODY),
        ([HOST, (b"content-length", b"0")], "1.1", NO_BODY),
        ([HOST, (b"content-length", b"16")], "1.1", BodyLength(16)),
        ([HOST, (b"transfer-encoding", b"Chunked")], "1.1", CHUNKED),
    ],
)
def test_the_length_of_a_body_stands_in_its_headers(headers, version, expected):
    assert body_length(headers, version) == expected


@pytest.mark.parametrize(
    ("headers", "version", "status"),
    [
        ([], "1.1", b"400"),
        ([HOST, HOST], "1.1", b"400"),
        ([HOST, (b"content-length", b"1"), (b"content-length", b"1")], "1.1", b"400"),
        ([HOST, (b"content-length", b"+1")], "1.1", b"400"),
        ([HOST, (b"content-length", b"1"), (b"transfer-encoding", b"chunked")], "1.1", b"400"),
        ([HOST, (b"transfer-encoding", b"chunked")], "1.0", b"400"),
        ([HOST, (b"transfer-encoding", b"gzip, chunked")], "1.1", b"501"),
        ([HOST, (b"transfer-encoding", b"gzip"), (b"transfer-encoding", b"chunked")], "1.1", b"501"),
    ],
)
def test_a_request_whose_end_is_not_certain_is_refused(headers, version, status):
    with pytest.raises(Malformed) as refused:
        body_length(headers, version)
    assert refused.value.status.startswith(status)


def test_an_offer_of_another_protocol_is_taken_out_of_the_head():
    head = b"POST / HTTP/1.1\r\nHost: a\r\nUPGRADE: h2c,\r\n websocket\r\nConnection: Upgrade\r\n\r\n"
    assert without_upgrade(head) == b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n\r\n"
    assert without_upgrade(b"GET /upgrade HTTP/1.1\r\n\r\n") == b"GET /upgrade HTTP/1.1\r\n\r\n"
