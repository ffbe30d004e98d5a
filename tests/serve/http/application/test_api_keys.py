from __future__ import annotations

import pytest
from support.serving import ServerProcess
from support.tiny_bundle import write_bundle

from potstill.contract.errors import UserError
from potstill.serve.http.application.api_keys import ApiKeys, read_keys

FIRST, SECOND = "first-key-of-16-or-more", "second-key-of-16-or-more"


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "keys"
    path.write_text(f"# two keys\n{FIRST}\n\n{SECOND}\n")
    path.chmod(0o600)
    return path


def test_any_one_of_the_keys_lets_in_and_nothing_else_does(key_file):
    keys = read_keys(key_file)
    assert len(keys) == 2 and keys.allow(FIRST.encode()) and keys.allow(SECOND.encode())
    for wrong in (None, b"", b"# two keys", FIRST.encode()[:-1], FIRST.encode() + b"x", b"\xff"):
        assert not keys.allow(wrong)
    assert ApiKeys([]).allow(None)


def test_keys_come_from_the_environment_without_a_file(monkeypatch):
    monkeypatch.setenv("POTSTILL_KEYS", f"{FIRST}, {SECOND}")
    assert read_keys(None).allow(SECOND.encode()) and not read_keys(None).allow(f"{FIRST}, {SECOND}".encode())
    monkeypatch.delenv("POTSTILL_KEYS")
    assert len(read_keys(None)) == 0


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        ("short\n", 0o600, "key 1 is no key; one has at least 16 printable ASCII characters"),
        ("", 0o600, "holds no key; write one key a line"),
        ("caf\u00e9-caf\u00e9-caf\u00e9-caf\u00e9\n", 0o600, "holds characters that are not ASCII; write one key a line"),
        (FIRST, 0o644, "may be read by everybody; take that right away with: chmod o= "),
    ],
)
def test_a_file_that_is_none_of_keys_is_refused_without_showing_them(tmp_path, content, mode, message):
    path = tmp_path / "keys"
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(UserError) as refused:
        read_keys(path)
    assert message in str(refused.value) and "short" not in str(refused.value) and FIRST not in str(refused.value)


def test_a_server_with_keys_answers_only_who_has_one(tmp_path, key_file):
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
def test_other_machines_are_let_in_only_with_a_key_or_on_purpose(tmp_path, key_file, host):
    folder = write_bundle(tmp_path / "plain")
    with ServerProcess(folder, "--host", host) as server:
        assert server.process.wait(60) == 1
        assert server.line.startswith(f"potstill: {host} lets other machines in; give a key with --keys FILE")
    for option in (["--keys", key_file], ["--insecure"]):
        with ServerProcess(folder, "--host", "0.0.0.0", *option) as server:
            assert server.ask("GET", "/livez")[0] == 200
