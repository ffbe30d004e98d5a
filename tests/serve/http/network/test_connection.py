from __future__ import annotations

import asyncio
import http.client
import json
import socket

import pytest
from support.serving import ServerProcess
from support.tiny_bundle import write_bundle

from potstill.serve.http.network.connection import CoalescingTransport


class Recorder:
    """A transport that records its calls."""

    def __init__(self):
        self.done, self.closing = [], False

    def write(self, data):
        self.done.append(data)

    def close(self):
        self.done.append("close")
        self.closing = True

    def abort(self):
        self.done.append("abort")
        self.closing = True

    def is_closing(self):
        return self.closing

    def get_write_buffer_size(self):
        return 3

    def get_extra_info(self, name):
        return name


def after(do):
    """The transport's calls by the end of the iteration."""
    recorder = Recorder()

    async def turn():
        do(CoalescingTransport(recorder, asyncio.get_running_loop()), recorder)
        await asyncio.sleep(0)

    asyncio.run(turn())
    return recorder.done


HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"


def test_head_and_body_are_sent_together_as_soon_as_the_body_is_there():
    def do(transport, recorder):
        transport.write(HEAD)
        assert recorder.done == [] and transport.get_write_buffer_size() == 3 + len(HEAD)
        transport.write(b"body")
        assert recorder.done == [HEAD + b"body"] and transport.get_write_buffer_size() == 3
        transport.write(b"more")  # of a reply in pieces
        assert transport.get_extra_info("peername") == "peername"

    assert after(do) == [HEAD + b"body", b"more"]


def test_a_head_without_a_body_is_sent_by_the_end_of_the_iteration():
    assert after(lambda transport, _: transport.write(HEAD)) == [HEAD]


def test_closing_sends_what_is_held_first_and_aborting_does_not():
    assert after(lambda transport, _: (transport.write(HEAD), transport.close())) == [HEAD, "close"]
    assert after(lambda transport, _: (transport.write(HEAD), transport.abort())) == ["abort"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ServerProcess(write_bundle(tmp_path_factory.mktemp("b") / "plain")) as server:
        yield server


def test_a_reply_comes_in_one_piece(server):
    body = b'{"text": "rise"}'
    request = b"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        for _ in range(20):
            client.sendall(request)
            head, _, rest = client.recv(65536).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200") and json.loads(rest)["answer"]["label"]


def test_a_reply_before_a_close_is_whole(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("POST", "/classify", '{"text": "rise"}', {"Connection": "close"})
    assert json.loads(connection.getresponse().read())["answer"]["label"]
