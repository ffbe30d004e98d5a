from __future__ import annotations

import asyncio
import json
import subprocess
from xml.etree import ElementTree

import pytest
from support.serving import ServerProcess
from support.tiny_bundle import unusual, write_bundle

from potstill.contract.errors import UserError
from potstill.serve.bench.load import client
from potstill.serve.bench.load.client import LOST, REFUSED, TIMED_OUT, Address, Connection
from potstill.serve.bench.load.closed_loop import closed_loop
from potstill.serve.bench.load.open_loop import open_loop
from potstill.serve.bench.load.result import LoadResult

pytestmark = pytest.mark.slow

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def serving(answer, load):
    """What `load(address)` returns against a server that has `answer(writer)` for each request."""

    async def handle(reader, writer):
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                await answer(writer)
        except (asyncio.IncompleteReadError, ConnectionResetError):
            pass  # the client has closed
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        found = await load(Address("127.0.0.1", server.sockets[0].getsockname()[1]))
        await asyncio.sleep(0.05)  # for the ends of connections to be seen
        return found


async def at_once(writer):
    writer.write(ANSWER)


def one_by_one(lock):
    """Requests take a while, and wait for each other."""

    async def answer(writer):
        async with lock:
            await asyncio.sleep(0.05)
        writer.write(ANSWER)

    return answer


def test_an_open_loop_counts_the_wait_that_a_closed_one_never_sees():
    async def both():
        lock = asyncio.Lock()
        opened = await serving(one_by_one(lock), lambda address: open_loop(address, [address.get("/")], 60, 1.0))
        closed = await serving(one_by_one(lock), lambda address: closed_loop(address, [address.get("/")], 1, seconds=1.0))
        return opened, closed

    opened, closed = asyncio.run(both())
    assert opened.n > 30 and opened.statuses[200] == opened.n  # 60 a second are asked of a server that bears 20: a queue of seconds
    assert opened.percentiles_ms(99)[0] > 5 * closed.percentiles_ms(99)[0]


def test_an_open_loop_sends_at_its_rate():
    outcome = asyncio.run(serving(at_once, lambda address: open_loop(address, [address.get("/")], 200, 1.0)))
    assert 140 <= outcome.n <= 260  # Poisson, mean 200: within four standard deviations


def test_a_broken_connection_counts_as_lost_and_one_that_was_never_made_does_not():
    async def rude(writer):
        raise ConnectionResetError

    async def run():
        lost = await serving(rude, lambda address: closed_loop(address, [address.get("/")], 2, n_requests=6))
        nobody = await closed_loop(Address("127.0.0.1", 9), [b"x"], 2, n_requests=6)
        return lost, nobody

    lost, nobody = asyncio.run(run())
    assert lost.statuses == {LOST: 6} and lost.n_lost() == 6 and lost.n_failed() == 6
    assert nobody.statuses == {REFUSED: 2} and nobody.n_lost() == 0


@pytest.mark.parametrize(
    "load", [lambda at: closed_loop(at, [at.get("/")], 2, n_requests=4), lambda at: open_loop(at, [at.get("/")], 40, 0.2)]
)
def test_a_reply_that_never_comes_is_given_up(load, monkeypatch):
    monkeypatch.setattr(client, "REPLY_TIMEOUT_S", 0.1)
    monkeypatch.setattr(client, "WATCH_S", 0.05)

    async def never(writer):
        pass

    outcome = asyncio.run(serving(never, load))
    assert set(outcome.statuses) == {TIMED_OUT} and outcome.n_lost() == outcome.n > 0


def test_a_reply_in_pieces_is_put_together():
    async def slowly(writer):
        for at in range(0, len(ANSWER), 7):
            writer.write(ANSWER[at : at + 7])
            await writer.drain()
            await asyncio.sleep(0.001)

    async def ask(address):
        connection = await Connection.connect(address)
        status = await connection.ask(address.get("/"), 10)
        connection.close()
        return status, connection.body

    assert asyncio.run(serving(slowly, ask)) == (200, b"ok")


def test_goodput_counts_answers_within_the_deadline():
    outcome = LoadResult(seconds=2.0, latencies_s=[0.1, 0.2, 3.0])
    outcome.statuses.update({200: 3, 429: 1, 504: 1, 500: 2})
    assert outcome.goodput_rps(1.0) == 1.0 and outcome.answered_rps == 1.5
    assert outcome.shed_share() == pytest.approx(2 / 7) and outcome.n_5xx() == 2


@pytest.mark.parametrize("url", ["127.0.0.1:80", "https://a:1", "http://a:x", "http://a:1/path", "http://"])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(UserError):
        Address.parse(url)


def test_the_command_measures_a_running_server_and_draws_its_ladder(tmp_path, console):
    folder, picture = write_bundle(tmp_path / "plain"), tmp_path / "ladder.svg"
    quick = ["--seconds", "0.2", "--overload-s", "0.4", "--n-alone", "20", "--n-soak", "100"]
    with ServerProcess(folder) as server:
        url = f"http://127.0.0.1:{server.port}"
        command = [*console, "bench", "server", url, "--bundle", folder, *quick, "--json", "--plot", picture]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        asked = sum(v for (name, _), v in server.metrics().items() if name == "potstill_requests_total")
        assert asked >= report["n"]
        bare = subprocess.run([*console, "bench", "server", url, *quick], capture_output=True, text=True, timeout=120)
        assert bare.returncode == 0 and "ceiling" in bare.stdout, bare.stderr
    keys = {
        "added_p50_ms",
        "ceiling_rps",
        "ceiling_over_limit",
        "over_best_peer",
        "overload_goodput",
        "overload_p99_ms",
        "errors_5xx",
        "rss_growth_mb",
        "lost",
    }
    assert keys <= set(report)
    assert report["errors_5xx"] == 0 and report["lost"] == 0 and report["ceiling_rps"] > 0 and len(report["ladder"]) == 6
    assert report["added_p50_ms"] == pytest.approx(report["http_p50_ms"] - report["in_process_p50_ms"])
    svg = ElementTree.fromstring(picture.read_text())
    assert len(svg.findall("{http://www.w3.org/2000/svg}polyline")) == 4


def test_the_command_starts_a_server_and_signals_to_it_which_takes_trust_where_the_bundle_does(tmp_path, console):
    folder = unusual(write_bundle(tmp_path / "plain"))
    quick = ["--seconds", "0.2", "--overload-s", "0.2", "--n-alone", "5", "--n-soak", "50", "--n-signals", "2"]
    command = [*console, "bench", "server", folder, *quick, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert done.returncode == 1 and "operator EyeLike: is none that an export writes" in done.stderr
    done = subprocess.run([*command, "--trust"], capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["lost"], report["errors_5xx"], report["n_signals"]) == (0, 0, 2)


@pytest.mark.parametrize(
    ("server", "options", "message"),
    [
        ("http://127.0.0.1:9", [], "127.0.0.1:9: accepts no connection; is it a potstill server?"),
        ("https://x", [], "https://x: is not the address of a server; give one like http://127.0.0.1:8080"),
        (
            "http://127.0.0.1:9",
            ["--n-signals", "1"],
            "signals need a server that this command starts; name its bundle: --bundle BUNDLE",
        ),
        ("nowhere", [], "nowhere: the server did not start: potstill: nowhere"),
    ],
)
def test_what_cannot_be_measured_is_one_line(console, tmp_path, server, options, message):
    done = subprocess.run([*console, "bench", "server", server, *options], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.startswith(f"potstill: {message}") and done.stderr.count("\n") == 1
