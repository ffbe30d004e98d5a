from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from serving import ServerProcess
from tiny_bundle import write_bundle

from serve.routes import FIXED

# A request of the right shape may still be refused: 413 where a text would be cut against the wish, 429 and 504 for its deadline, and
# 400 where the shape of a tensor does not count its strings, which no schema can say.
EXPECTED = ["2xx", "400", "404", "413", "429", "503", "504"]
REFUSED = ["400", "401", "403", "404", "405", "408", "413", "422", "429"]  # a wrong body may also be too large to look at
CHECKS = {"positive_data_acceptance": {"expected-statuses": EXPECTED}, "negative_data_rejection": {"expected-statuses": REFUSED}}
CHECKS["not_a_server_error"] = {"expected-statuses": ["2xx", "4xx", "504"]}  # 504: a deadline of microseconds that ran out
CONFIG = {"checks": CHECKS, "seed": 1}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("bundles")
    with ThreadPoolExecutor(1) as pool:  # a session makes its thread flush subnormal numbers, and hypothesis wants them in this one
        plain = pool.submit(write_bundle, root / "plain").result()
        pairs = pool.submit(write_bundle, root / "pairs", target=True).result()
    with ServerProcess(f"plain={plain}", f"pairs={pairs}") as server:
        yield server


@pytest.fixture(scope="module")
def described(server):
    url = f"http://127.0.0.1:{server.port}/openapi.json"
    return schemathesis.openapi.from_url(url, config=schemathesis.Config.from_dict(CONFIG))


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_no_request_gets_a_5xx_or_a_reply_that_is_not_described(described, mode):
    n_cases = 0
    for found in described.get_all_operations():
        operation = found.ok()
        if mode == GenerationMode.NEGATIVE and not operation.body:
            continue  # there is nothing that could be wrong

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(max_examples=12, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
        def ask(case):
            nonlocal n_cases
            n_cases += 1
            if mode == GenerationMode.POSITIVE and isinstance(case.body, dict) and "targets" in case.body:
                n_texts = len(case.body["texts"])  # no schema can say that there are as many targets
                case.body = {**case.body, "targets": (case.body["targets"] * n_texts)[:n_texts]}
            case.call_and_validate()

        ask()
    assert n_cases > 100


def test_every_fixed_path_is_described_and_no_other(server):
    document = json.loads(server.ask("GET", "/openapi.json")[1])
    assert document["openapi"] == "3.1.0"
    of_bundles = [path for path in document["paths"] if path.startswith(("/bundles/", "/v2/models/"))]
    assert set(document["paths"]) - set(of_bundles) == set(FIXED) and len(of_bundles) == 2 * 8
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
