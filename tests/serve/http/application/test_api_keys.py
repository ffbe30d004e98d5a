from __future__ import annotations

import pytest
from support.serving import ServerProcess
from support.tiny_bundle import write_bundle

from potstill.contract.errors import UserError
from potstill.serve.http.application.api_keys import ApiKeys, read_keys, too_open

pytestmark = pytest.mark.slow

FIRST, SECOND = "first-key-of-16-or-more", "second-key-of-16-or-more"


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "keys"
    path.write_text(f"# two keys\n{FIRST}\n\n{SECOND}\n")
    path.chmod(0o600)
    return path


def test_each_of_the_keys_is_accepted_and_nothing_else_is(key_file):
    keys = read_keys(str(key_file))
    assert len(keys) == 2 and keys.allow(FIRST.encode()) and keys.allow(SECOND.encode())
    for wrong in (None, b"", b"# two keys", FIRST.encode()[:-1], FIRST.encode() + b"x", b"\xff"):
        assert not keys.allow(wrong)
    assert ApiKeys([]).allow(None)


def test_without_a_file_keys_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("POTSTILL_KEYS", f"{FIRST}, {SECOND}")
    assert read_keys(None).allow(SECOND.encode()) and not read_keys(None).allow(f"{FIRST}, {SECOND}".encode())
    monkeypatch.delenv("POTSTILL_KEYS")
    assert len(read_keys(None)) == 0


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        (
            "short\n",
            0o600,
            "key 1 is invalid: a key has at least 16 printable ASCII characters; make one with: openssl rand -hex 16",
        ),
        ("", 0o600, "contains no keys; write one key per line"),
        ("caf\u00e9-caf\u00e9-caf\u00e9-caf\u00e9\n", 0o600, "contains non-ASCII characters; write one key per line"),
        (FIRST, 0o644, "is readable by everyone; fix that with: chmod o= "),
    ],
)
def test_an_invalid_file_of_keys_is_refused_without_showing_them(tmp_path, content, mode, message):
    path = tmp_path / "keys"
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(UserError) as refused:
        read_keys(path)
    assert message in str(refused.value) and "short" not in str(refused.value) and FIRST not in str(refused.value)


def test_a_server_with_keys_answers_only_clients_with_one(tmp_path, key_file):
    with ServerProcess(write_bundle(tmp_path / "plain"), "--keys", key_file) as server:
        for headers in ({"Authorization": f"Bearer {FIRST}"}, {"authorization": f"bearer {SECOND}"}, {"X-API-Key": FIRST}):
            assert server.post("/classify", {"text": "rise"}, headers)[0] == 200
            assert server.ask("GET", "/metrics", None, headers)[0] == 200
        for path, method in (
            ("/metrics", "GET"),
            ("/bundles", "GET"),
            ("/v2", "GET"),
            ("/classify", "POST"),
            ("/v2/models/plain/infer", "POST"),
        ):
            for headers in ({}, {"X-API-Key": "wrong"}, {"Authorization": f"Basic {FIRST}"}):
                status, body, found = server.ask(method, path, b"{}" if method == "POST" else None, headers)
                assert status == 401 and found["www-authenticate"] == "Bearer", path
                assert FIRST.encode() not in body and b"wrong" not in body
        for path in ("/livez", "/readyz", "/v2/health/live", "/v2/health/ready", "/", "/openapi.json"):
            assert server.ask("GET", path)[0] == 200
        assert server.stop() == 0
        assert FIRST.encode() not in server.process.stderr.read()


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_other_machines_need_a_key_or_the_option_insecure(tmp_path, key_file, host):
    folder = write_bundle(tmp_path / "plain")
    with ServerProcess(folder, "--host", host) as server:
        assert server.process.wait(60) == 1
        assert server.line.startswith(f"potstill: {host} is open to other machines; require a key with --keys FILE")
    for option in (["--keys", key_file], ["--insecure"]):
        with ServerProcess(folder, "--host", "0.0.0.0", *option) as server:
            assert server.ask("GET", "/livez")[0] == 200


@pytest.mark.parametrize(
    ("mode", "owner", "user", "read_only", "refused"),
    [
        (0o600, 7, 7, False, False),
        (0o640, 0, 7, False, False),
        (0o644, 7, 7, False, True),
        (0o644, 7, 7, True, True),
        (0o644, 0, 7, False, True),
        (0o444, 0, 0, True, True),
        (0o444, 0, 7, True, False),  # a secret as container engines mount it
        (0o646, 0, 7, True, True),
    ],
)
def test_a_file_that_everyone_may_read_is_refused_unless_root_mounted_it_read_only(mode, owner, user, read_only, refused):
    assert too_open(mode, owner, user, read_only=read_only) is refused
