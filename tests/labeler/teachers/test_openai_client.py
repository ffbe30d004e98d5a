"""The client against a real HTTP server that misbehaves: what is tried again, what is not, and what a person reads then."""

import asyncio
import socket
import threading
import time
from email.utils import formatdate

import pytest

from potstill.contract.errors import UserError
from potstill.labeler.config import ServerConfig
from potstill.labeler.teachers.openai_client import ServerClient, api_key, base_url, is_loopback
from potstill.labeler.teachers.replies import RefusedError

pytestmark = pytest.mark.slow

QUICK = ServerConfig(n_tries=3, first_wait_s=0.01, timeout_s=0.2)
KEPT = "paths drawn so far are kept, and the same command goes on from there"
START = "start one, for example: llama-server -m MODEL.gguf --port 8000"


@pytest.fixture
def client():
    """Makes clients, and closes them with the test."""
    made = []

    def make(url, config=QUICK):
        made.append(ServerClient(url, config))
        return made[-1]

    yield make
    for one in made:
        one.close()
        one.close()  # twice does no harm


def in_turn(*replies):
    """A script that gives its replies one after the other, the last one again and again."""
    left = list(replies)
    return lambda path, body: left.pop(0) if len(left) > 1 else left[0]


def test_a_server_in_trouble_is_asked_again_until_it_answers(scripted_server, client):
    server = scripted_server(in_turn((500, {}, {"error": "busy"}), (503, {}, b"loading"), (200, {"Server": "x"}, {"ok": 1})))
    one = client(server.url)
    assert one.wait(one.post("/completions", {"prompt": "p"})).body == b'{"ok": 1}'
    assert server.completions() == [{"prompt": "p"}] * 3


@pytest.mark.parametrize(
    ("reply", "n_tries", "said"),
    [
        ((500, {}, {"error": "Internal Server Error"}), 2, "500: Internal Server Error"),
        (None, 2, "the connection broke (Server disconnected without sending a response.)"),
        ((501, {}, {"error": "not a decision model"}), 1, "501: not a decision model"),
    ],
)
def test_a_question_whether_a_server_can_do_something_is_not_asked_for_long(scripted_server, client, reply, n_tries, said):
    server = scripted_server(lambda path, body: reply)
    one = client(server.url)
    with pytest.raises(RefusedError) as error:
        one.wait(one.post("/completions", {}, quick=True))
    assert str(error.value) == said
    assert len(server.requests) == n_tries


def test_a_server_that_is_loading_its_model_is_waited_for_also_where_it_is_only_asked_what_it_can(scripted_server, client):
    server = scripted_server(in_turn((503, {}, b"Loading model"), (503, {}, b"Loading model"), (200, {}, {})))
    one = client(server.url)
    one.wait(one.post("/completions", {}, quick=True))
    assert len(server.requests) == 3


def test_ollamas_own_paths_stand_beside_v1(scripted_server, client):
    server = scripted_server(lambda path, body: (200, {}, {}))
    one = client(server.url)
    one.wait(one.post("/api/generate", {}))
    one.wait(one.post("/completions", {}))
    assert [path for path, _, _ in server.requests] == ["/api/generate", "/v1/completions"]


def test_a_server_in_lasting_trouble_ends_the_run_and_says_that_nothing_is_lost(scripted_server, client):
    server = scripted_server(in_turn((502, {}, b"<html>Bad Gateway</html>")))
    one = client(server.url)
    with pytest.raises(UserError) as error:
        one.wait(one.post("/completions", {}))
    said = f"{server.url}: POST /completions failed 3 times, the last time: 502: <html>Bad Gateway</html>; {KEPT}"
    assert str(error.value) == said
    assert len(server.requests) == 3


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """The waits between tries, in seconds, none of which is waited for."""
    found, sleep = [], asyncio.sleep

    async def at_once(seconds):
        found.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", at_once)
    return found


@pytest.mark.parametrize(("header", "least", "most"), [("0.4", 0.4, 0.4), ("date", 0.01, 30)])
def test_a_server_that_says_when_to_come_back_is_asked_then(scripted_server, client, waits, header, least, most):
    wait = formatdate(time.time() + 30, usegmt=True) if header == "date" else header
    server = scripted_server(in_turn((429, {"Retry-After": wait}, {}), (200, {}, {})))
    one = client(server.url)
    one.wait(one.post("/completions", {}))
    (waited,) = waits
    assert least <= waited <= most  # without the header, it would have been at most 10 ms
    assert len(server.requests) == 2


def test_waits_double_from_try_to_try_and_are_jittered_downwards(scripted_server, client, waits):
    server = scripted_server(lambda path, body: (503, {}, b"loading"))
    one = client(server.url, ServerConfig(n_tries=5, first_wait_s=1.0, longest_wait_s=4.0))
    with pytest.raises(UserError, match="failed 5 times"):
        one.wait(one.post("/completions", {}))
    assert len(waits) == 4
    assert all(most / 2 <= waited <= most for waited, most in zip(waits, (1, 2, 4, 4), strict=True))


@pytest.mark.parametrize("header", ["soon", "-5", "Mon, 01 Jan 2001 00:00:00 GMT"])
def test_a_senseless_time_to_come_back_stops_nothing(scripted_server, client, header):
    server = scripted_server(in_turn((429, {"Retry-After": header}, {}), (200, {}, {})))
    one = client(server.url)
    one.wait(one.post("/completions", {}))
    assert len(server.requests) == 2


def test_no_wait_is_longer_than_the_longest(scripted_server, client, waits):
    server = scripted_server(in_turn((429, {"Retry-After": "86400"}, {}), (200, {}, {})))
    one = client(server.url, ServerConfig(n_tries=2, longest_wait_s=5.0))
    one.wait(one.post("/completions", {}))
    assert waits == [5.0]


def test_an_answer_that_does_not_come_is_asked_for_again(scripted_server, client):
    release = threading.Event()
    server = scripted_server(lambda path, body: (200, {}, {"waited": release.wait(10)}))
    one = client(server.url)
    with pytest.raises(UserError) as error:
        one.wait(one.post("/completions", {}))
    release.set()
    assert str(error.value) == f"{server.url}: POST /completions failed 3 times, the last time: no answer within 0.2 s; {KEPT}"


def test_a_connection_that_breaks_in_the_middle_is_opened_again(scripted_server, client):
    server = scripted_server(in_turn(None, (200, {"Content-Length": "100", "Connection": "close"}, b"{"), (200, {}, {"ok": 1})))
    one = client(server.url)
    assert one.wait(one.post("/completions", {})).body == b'{"ok": 1}'


def test_a_connection_that_always_breaks_says_so(scripted_server, client):
    server = scripted_server(lambda path, body: None)
    one = client(server.url)
    with pytest.raises(UserError) as error:
        one.wait(one.post("/completions", {}))
    said = "the connection broke (Server disconnected without sending a response.)"
    assert str(error.value) == f"{server.url}: POST /completions failed 3 times, the last time: {said}; {KEPT}"


def test_where_nothing_listens_one_line_says_how_to_start_a_server(client):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
    one = client(url)
    with pytest.raises(UserError) as error:
        one.wait(one.get("/models"))
    assert str(error.value) == f"{url}: no server answers there (All connection attempts failed); {START}"
    with pytest.raises(UserError) as error:  # later on it may have been restarted, so it is waited for
        one.wait(one.post("/completions", {}))
    said = "failed 3 times, the last time: no connection (All connection attempts failed)"
    assert str(error.value) == f"{url}: POST /completions {said}; {KEPT}"


def test_a_refused_request_is_not_sent_again(scripted_server, client):
    server = scripted_server(in_turn((400, {}, {"error": {"message": "no such model"}})))
    one = client(server.url)
    with pytest.raises(RefusedError, match=r"^400: no such model$"):
        one.wait(one.post("/completions", {}))
    assert len(server.requests) == 1


def test_a_server_that_cannot_give_log_probabilities_is_not_asked_again_although_it_says_500(scripted_server, client):
    words = "logprobs is not supported for models created with logits_all=False"  # llama_cpp.server
    server = scripted_server(in_turn((500, {}, {"error": {"message": words}})))
    one = client(server.url)
    with pytest.raises(RefusedError, match=rf"^500: {words}$"):
        one.wait(one.post("/completions", {}))
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("key", "status", "found"), [("", 401, "asks for a key"), ("sk-secret", 403, "refuses the key it was given")]
)
def test_a_missing_or_wrong_key_names_the_variables_and_never_the_key(scripted_server, client, monkeypatch, key, status, found):
    monkeypatch.setenv("POTSTILL_API_KEY", key)
    server = scripted_server(lambda path, body: (status, {}, {"error": {"message": "bad key 'sk-secret'"}}))
    one = client(server.url)
    with pytest.raises(UserError) as error:
        one.wait(one.get("/models"))
    told = "***" if key else "sk-secret"
    said = f"{found} ({status}: bad key '{told}'); set it in the environment as POTSTILL_API_KEY or OPENAI_API_KEY"
    assert str(error.value) == f"{server.url}: {said}"
    assert len(server.requests) == 1


def test_the_key_travels_in_the_header_and_nowhere_else(scripted_server, client, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", " sk-secret\n")
    server = scripted_server(in_turn((200, {}, {})))
    one = client(server.url)
    one.wait(one.post("/completions", {"prompt": "p"}))
    ((path, headers, body),) = server.requests
    assert headers.pop("Authorization") == "Bearer sk-secret"
    assert "secret" not in f"{path}{headers}{body}"


@pytest.mark.parametrize(
    ("url", "mine", "openai", "sent"),
    [
        ("http://127.0.0.1:1/v1", "mine", "openai", "mine"),
        ("http://127.0.0.1:1/v1", "", "openai", "openai"),
        ("https://example.com/v1", "", "openai", "openai"),
        ("http://example.com/v1", "", "openai", ""),  # OpenAI's key is not sent in the clear to another machine
        ("http://example.com/v1", "mine", "openai", "mine"),
        ("http://127.0.0.1:1/v1", "", "", ""),
    ],
)
def test_the_key_is_chosen_by_who_asks_for_it(monkeypatch, url, mine, openai, sent):
    monkeypatch.setenv("POTSTILL_API_KEY", mine)
    monkeypatch.setenv("OPENAI_API_KEY", openai)
    assert api_key(url) == sent


def test_a_key_that_cannot_be_one_is_refused_without_being_shown(monkeypatch):
    monkeypatch.setenv("POTSTILL_API_KEY", "sk-sécret")
    with pytest.raises(UserError) as error:
        api_key("http://127.0.0.1:1/v1")
    assert str(error.value) == "the environment variable POTSTILL_API_KEY holds characters that no key has; set it again"


def test_a_redirect_is_not_followed(scripted_server, client, monkeypatch):
    monkeypatch.setenv("POTSTILL_API_KEY", "sk-secret")
    other = scripted_server(in_turn((200, {}, {})))
    server = scripted_server(in_turn((307, {"Location": f"{other.url}/models"}, {})))
    one = client(server.url)
    with pytest.raises(UserError) as error:
        one.wait(one.get("/models"))
    said = f"redirects /models to {other.url}/models; redirects are not followed, so give the final address"
    assert str(error.value) == f"{server.url}: {said}"
    assert other.requests == []


def test_a_proxy_of_the_environment_does_not_see_what_stays_on_this_machine(scripted_server, client, monkeypatch):
    proxy = scripted_server(in_turn((200, {}, {"proxied": 1})))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.host)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = scripted_server(in_turn((200, {}, {"ok": 1})))
    one = client(server.url)
    assert one.wait(one.get("/models")).body == b'{"ok": 1}'
    assert proxy.requests == []


def test_closing_cancels_what_is_in_flight_at_once(scripted_server, client):
    release = threading.Event()
    server = scripted_server(lambda path, body: (200, {}, {"waited": release.wait(60)}))
    one = client(server.url, ServerConfig())
    future = one.submit(one.post("/completions", {}))
    for _ in range(500):
        if server.requests:
            break
        time.sleep(0.01)
    one.close()  # had it waited for the reply, there would be a result
    release.set()
    assert future.cancelled()


@pytest.mark.parametrize("url", ["http://", "http:///v1", "http://host:port/v1", "http://[::1/v1", "ftp://host/v1", "host:8000"])
def test_what_is_no_address_of_a_server_is_refused(url):
    with pytest.raises(UserError) as error:
        base_url(url)
    assert str(error.value) == f"{url}: is not the address of a server; an address looks like http://127.0.0.1:8000/v1"


@pytest.mark.parametrize("url", ["http://me:secret@host:8000/v1", "https://host/v1?key=secret", "https://host/v1#secret"])
def test_an_address_with_a_secret_in_it_is_refused_without_showing_it(url):
    with pytest.raises(UserError) as error:
        base_url(url)
    said = "the address must consist of host, port and path only; a key belongs in the environment, as POTSTILL_API_KEY or OPENAI_API_KEY"
    assert str(error.value) == f"{url.partition(':')[0]}://host: {said}"


def test_a_slash_at_the_end_makes_no_other_server():
    assert base_url("http://127.0.0.1:8000/v1/") == base_url("http://127.0.0.1:8000/v1")


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://localhost:1/v1", True),
        ("http://127.3.2.1/v1", True),
        ("http://[::1]:1/v1", True),
        ("http://10.0.0.1/v1", False),
        ("http://localhost.example.com/v1", False),
    ],
)
def test_this_machine_is_told_from_others(url, here):
    assert is_loopback(url) is here
