"""Web pages that reach a server on this machine, and those that may."""

from __future__ import annotations

import pytest
from support.serving import ServerProcess
from support.tiny_bundle import write_bundle

from potstill.serve.http.application.access import AccessPolicy
from potstill.serve.http.asgi import Refused

pytestmark = pytest.mark.slow

PATHS = ["/", "/bundles", "/metrics", "/v2/models/tiny", "/openapi.json", "/livez"]


def accepts(policy, host):
    try:
        policy.check_host({"headers": [(b"host", host)]})
    except Refused as refused:
        assert refused.status == 421
        return False
    return True


def test_only_names_of_this_machine_and_allowed_ones_are_accepted():
    policy = AccessPolicy(frozenset({"box.example"}))
    for host in (b"localhost", b"LOCALHOST:80", b"a.localhost:1", b"127.0.0.1:8080", b"127.9.9.9", b"[::1]:80", b"box.example:80"):
        assert accepts(policy, host), host
    for host in (
        b"evil.example",
        b"127.0.0.1.evil.example",
        b"localhost.evil",
        b"10.0.0.1",
        b"[::2]",
        b"",
        b"0.0.0.0",
        b"box.example.evil",
    ):
        assert not accepts(policy, host), host
    assert accepts(AccessPolicy(), b"evil.example")


def test_a_server_without_keys_answers_no_foreign_name_on_any_path(tmp_path):
    bundle = write_bundle(tmp_path / "plain")
    with ServerProcess(bundle, "--allow-host", "Box.example") as server:
        for path in PATHS:
            assert server.ask("GET", path, headers={"Host": "evil.example"})[0] == 421
            assert server.ask("GET", path)[0] == server.ask("GET", path, headers={"Host": "box.example:80"})[0] == 200
        assert server.post("/classify", {"text": "rise"}, {"Host": "evil.example"})[0] == 421
        assert server.count("potstill_shed_total", reason="host") == len(PATHS) + 1


def test_a_server_with_keys_answers_under_any_name(tmp_path):
    key = "0123456789abcdef"
    with ServerProcess(write_bundle(tmp_path / "plain"), env={"POTSTILL_KEYS": key}) as server:
        assert server.ask("GET", "/bundles", headers={"Host": "box.example", "X-API-Key": key})[0] == 200


def test_options_names_the_methods_and_no_origin_is_allowed_by_default(tmp_path):
    page = {"Origin": "https://page.example"}
    bundle = write_bundle(tmp_path / "plain")
    with ServerProcess(bundle) as server:
        status, body, headers = server.ask("OPTIONS", "/predict", headers=page)
        assert (status, body, headers["allow"]) == (200, b"", "POST, OPTIONS")
        assert "access-control-allow-origin" not in headers
        assert server.ask("OPTIONS", "/none")[0] == 404
    with ServerProcess(bundle, "--allow-origin", page["Origin"]) as server:
        headers = server.ask("OPTIONS", "/predict", headers=page)[2]
        assert headers["access-control-allow-origin"] == page["Origin"] and "POST" in headers["access-control-allow-methods"]
        assert server.ask("GET", "/livez", headers=page)[2]["access-control-allow-origin"] == page["Origin"]
        assert "access-control-allow-origin" not in server.ask("GET", "/livez", headers={"Origin": "https://evil.example"})[2]
    with ServerProcess(bundle, "--allow-origin", "*") as server:
        assert server.ask("OPTIONS", "/predict", headers=page)[2]["access-control-allow-origin"] == "*"
