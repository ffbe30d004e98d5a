from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from api_fuzz import fuzz
from schemathesis import GenerationMode
from support.serving import ServerProcess
from support.tiny_bundle import write_bundle

from potstill.serve.http.application.routes import FIXED_ROUTES, PROTOCOLS, find_route

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("bundles")
    with ThreadPoolExecutor(1) as pool:  # a session makes its thread flush subnormal numbers, and hypothesis wants them in this one
        plain = pool.submit(write_bundle, root / "plain").result()
        pairs = pool.submit(write_bundle, root / "pairs", target=True).result()
    with ServerProcess(f"plain={plain}", f"pairs={pairs}") as server:
        yield server


def test_no_request_gets_a_5xx_or_a_reply_that_is_not_described(server):
    rows = fuzz(f"http://127.0.0.1:{server.port}", n_cases=300)
    assert [row.problem for row in rows if row.problem is not None] == []
    assert sum(row.n_cases for row in rows) >= 300
    asked = {(row.operation, row.mode) for row in rows if row.n_cases}
    assert {("POST /classify", mode) for mode in GenerationMode} <= asked and ("GET /livez", GenerationMode.POSITIVE) in asked


def test_every_fixed_path_is_described_and_no_other(server):
    document = json.loads(server.ask("GET", "/openapi.json")[1])
    assert document["openapi"] == "3.1.0"
    of_bundles = [path for path in document["paths"] if path.startswith(("/bundles/", "/v2/models/"))]
    assert set(document["paths"]) - set(of_bundles) == set(FIXED_ROUTES) and len(of_bundles) == 2 * 9
    for path, operations in document["paths"].items():
        for method in set(operations) - {"parameters"}:
            concrete = path.replace("{version}", "x")
            assert server.ask(method.upper(), concrete, b"" if method == "post" else None)[0] != 405, path


def test_what_the_bundles_ask_for_is_in_the_description(server):
    paths = json.loads(server.ask("GET", "/openapi.json")[1])["paths"]
    for path, required in (
        ("/classify", [["text"], ["texts"]]),
        ("/bundles/plain/classify", [["text"], ["texts"]]),
        ("/bundles/pairs/classify", [["text", "target"], ["texts", "targets"]]),
    ):
        shapes = paths[path]["post"]["requestBody"]["content"]["application/json"]["schema"]["oneOf"]
        assert [shape["required"] for shape in shapes] == required


def test_the_paths_that_take_a_post_are_those_with_a_protocol():
    routes = [*FIXED_ROUTES.values(), find_route("/v2/models/plain/infer"), find_route("/bundles/plain/classify")]
    assert {route.kind for route in routes if "POST" in route.methods} == set(PROTOCOLS)
    assert not {route.kind for route in routes if "GET" in route.methods} & set(PROTOCOLS)


def test_every_operation_has_a_name_of_its_own(server):
    paths = json.loads(server.ask("GET", "/openapi.json")[1])["paths"]
    names = [operation["operationId"] for path in paths.values() for method, operation in path.items() if method != "parameters"]
    assert len(names) == len(set(names)) == len(paths) + 1  # "/" shows the page, and takes a text
