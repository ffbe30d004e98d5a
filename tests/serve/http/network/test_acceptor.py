"""Connections are spread over the processes of a server, and none is left waiting."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import subprocess

import pytest
from support.serving import ServerProcess, wait_until
from support.tiny_bundle import write_bundle

from potstill.serve.http.network import acceptor
from potstill.serve.http.network.acceptor import Acceptor
from potstill.serve.http.telemetry.shared_counts import SharedCounts

pytestmark = pytest.mark.slow

ASK = b'POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: 16\r\n\r\n{"text": "rise"}'


class Echo(asyncio.Protocol):
    """Sends back what comes."""

    n_open = 0

    def connection_made(self, transport):
        self.transport = transport
        Echo.n_open += 1

    def data_received(self, data):
        self.transport.write(data)

    def connection_lost(self, exc):
        Echo.n_open -= 1


class TooManyFilesAtFirst(socket.socket):
    """A listening socket of a process that has too many files open, once."""

    n_failed = 0

    def accept(self):
        if not self.n_failed:
            self.n_failed += 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return super().accept()


@pytest.fixture
def counts():
    memory = SharedCounts.new(2)
    yield SharedCounts(memory, 2, 0), SharedCounts(memory, 2, 1)
    os.close(memory)


async def echoes(listener, own, n=1):
    """(replies to n clients of an acceptor on this socket, the number of connections that it publishes meanwhile)."""
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    taking = Acceptor(listener, Echo, lambda: Echo.n_open, own)
    clients = [await asyncio.open_connection(*listener.getsockname()) for _ in range(n)]
    for _, writer in clients:
        writer.write(b"hello")
    found = [await asyncio.wait_for(reader.readexactly(5), 10) for reader, _ in clients]
    shown = own.fewest_open()
    for _, writer in clients:
        writer.close()
        await writer.wait_closed()
    taking.close()
    while Echo.n_open:
        await asyncio.sleep(0.001)
    return found, shown


def test_every_connection_is_accepted_and_published(counts):
    own, other = counts
    other.publish_open(100)
    with socket.socket() as listener:
        assert asyncio.run(echoes(listener, own, 5)) == ([b"hello"] * 5, 5)


def test_many_connections_are_accepted_in_one_iteration_of_the_event_loop():
    async def take(listener, clients):
        taking, n_turns = Acceptor(listener, Echo, lambda: Echo.n_open), 0
        while Echo.n_open < len(clients):
            n_turns += 1
            await asyncio.sleep(0)
        taking.close()
        for client in clients:
            client.close()
        while Echo.n_open:
            await asyncio.sleep(0.001)
        return n_turns

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        clients = [socket.create_connection(listener.getsockname()) for _ in range(50)]
        assert asyncio.run(take(listener, clients)) < 20


def test_a_connection_that_no_other_process_accepts_is_accepted_in_the_end(counts):
    own, _ = counts  # the other one publishes 0, and accepts none
    with socket.socket() as listener:
        assert asyncio.run(echoes(listener, own, 3)) == ([b"hello"] * 3, 0)


def test_a_process_with_too_many_open_files_tries_again(counts, monkeypatch):
    monkeypatch.setattr(acceptor, "RETRY_S", 0.05)
    with TooManyFilesAtFirst() as listener:
        assert asyncio.run(echoes(listener, counts[0]))[0] == [b"hello"]
        assert listener.n_failed == 1


def test_the_processes_of_a_server_get_similar_numbers_of_connections(tmp_path):
    def n_sockets(child):
        n = 0
        for name in os.listdir(f"/proc/{child}/fd"):
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                n += os.readlink(f"/proc/{child}/fd/{name}").startswith("socket:")
        return n

    with ServerProcess(write_bundle(tmp_path / "plain"), "--processes", "2") as server:
        children = [int(pid) for pid in subprocess.check_output(["pgrep", "-P", str(server.process.pid)]).split()]
        before = [n_sockets(child) for child in children]

        def shared_out():
            clients = [server.socket() for _ in range(12)]
            for client in clients:
                client.sendall(ASK)
            for client in clients:
                assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
            gained = [n_sockets(child) - n for child, n in zip(children, before, strict=True)]
            for client in clients:
                client.close()
            wait_until(lambda: [n_sockets(child) for child in children] == before, "closed connections")
            assert sum(gained) == 12
            return min(gained) >= 4

        wait_until(shared_out, "six and six, or nearly")  # a process that is held up leaves its share to the other
        assert server.stop() == 0
