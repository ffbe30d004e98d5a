from __future__ import annotations

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.serving import ServerProcess, wait_until
from support.tiny_bundle import a_familiarity, write_bundle

from potstill.serve.http.telemetry.prometheus import MetricFamily, merge
from potstill.serve.http.telemetry.shared_counts import SharedCounts

pytestmark = pytest.mark.slow

SECRET = "zebra quartz"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ServerProcess(write_bundle(tmp_path_factory.mktemp("b") / "plain", thresholds={"down": None})) as server:
        yield server


def test_prometheus_reads_the_counts_of_requests_and_answers(server):
    before = server.metrics()
    server.classify(texts=["rise", "fall", "the price will rise"])
    server.classify(text=1)
    after = server.metrics()

    def grown(name, **labels):
        key = (name, tuple(sorted(labels.items())))
        return after.get(key, 0) - before.get(key, 0)

    for name in ("tokenize_seconds", "infer_seconds", "text_tokens", "confidence"):
        assert grown(f"potstill_{name}_count", bundle="tiny") == 3
        assert grown(f"potstill_{name}_bucket", bundle="tiny", le="+Inf") == 3
        assert grown(f"potstill_{name}_sum", bundle="tiny") > 0
    assert grown("potstill_text_tokens_sum", bundle="tiny") == 3 + 3 + 6
    for name in ("queue_seconds", "request_seconds"):
        assert grown(f"potstill_{name}_count", bundle="tiny") == 1
    assert grown("potstill_requests_total", path="/classify", status="200") == 1
    assert grown("potstill_requests_total", path="/classify", status="422") == 1
    labels = [
        grown("potstill_labels_total", bundle="tiny", label=name, abstain=a)
        for name in ("up", "flat", "down")
        for a in ("true", "false")
    ]
    assert sum(labels) == 3
    (info,) = [labels for (name, labels), value in after.items() if name == "potstill_bundle_info" and value == 1]
    assert re.fullmatch("[0-9a-f]{64}", dict(info)["digest"])
    assert after[("potstill_ready", ())] == 1 and after[("process_resident_memory_bytes", ())] > 1e7


def test_unfamiliar_texts_are_counted_and_named_in_the_reply(tmp_path):
    bundle = write_bundle(tmp_path / "told", familiarity=a_familiarity())
    with ServerProcess(bundle) as server:
        _, found = server.classify(texts=["the price will rise", "zzz qqq", "xxx"])
        described = server.ask("GET", "/bundles")[1]
        counted = sum(value for (name, _), value in server.metrics().items() if name == "potstill_unfamiliar_total")
    assert [answer["unfamiliar"] for answer in found["answers"]] == [False, True, True]
    assert [answer["unfamiliarity"] > 0 for answer in found["answers"]] == [False, True, True]
    assert b'"unfamiliar":{"rate":0.05,"threshold":0.0,"n":40}' in described
    assert counted == 2


def test_memory_and_cpu_of_several_processes_are_summed(tmp_path):
    bundle = write_bundle(tmp_path / "plain")
    with ServerProcess(bundle) as one, ServerProcess(bundle, "--processes", "3") as three:
        memory, cpu = ("process_resident_memory_bytes", ()), ("process_cpu_seconds_total", ())
        alone = one.metrics()
        wait_until(
            lambda: three.metrics()[memory] > 2.5 * alone[memory], "memory of three"
        )  # each process publishes its own once a second
        assert three.metrics()[cpu] > 0.1


def test_every_metric_has_a_help_and_a_type(server):
    page = server.ask("GET", "/metrics")[1].decode()
    families = list(text_string_to_metric_families(page))
    assert len(families) > 12
    for family in families:
        assert family.documentation and family.type in ("counter", "histogram", "gauge"), family.name


def test_no_text_is_in_metrics_or_log(tmp_path):
    with ServerProcess(write_bundle(tmp_path / "plain")) as server:
        server.classify(text=SECRET)
        server.ask("POST", "/classify", b'{"text": "' + SECRET.encode() + b'"')
        server.ask("GET", f"/{SECRET.replace(' ', '-')}")
        page = server.ask("GET", "/metrics")[1].decode()
        server.stop()
        said = page + server.process.stderr.read().decode()
    assert not any(word in said for word in SECRET.split())


def test_labels_are_escaped():
    metric = MetricFamily("m_total", "Some.", ("label",))
    for value in ('a"b', "a\\b", "a\nb", "\ud800", "ü"):
        metric.add(value)
    text = "\n".join(metric.lines(metric.values)) + "\n"
    (family,) = text_string_to_metric_families(text)
    assert [sample.labels["label"] for sample in family.samples] == ['a"b', "a\\b", "a\nb", "?", "ü"]


def test_a_value_on_a_bound_belongs_to_its_bucket():
    metric = MetricFamily("m", "Some.", (), (1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 9.0):
        metric.observe(value)
    (family,) = text_string_to_metric_families("\n".join(metric.lines(metric.values)) + "\n")
    assert {sample.labels.get("le", sample.name): sample.value for sample in family.samples} == {
        "1": 2, "2": 4, "+Inf": 5, "m_sum": 14, "m_count": 5,
    }  # fmt: skip


def test_processes_see_each_others_counts():
    memory = SharedCounts.new(2)
    first, second = SharedCounts(memory, 2, 0), SharedCounts(memory, 2, 1)
    assert first.all() == [{}, {}]
    first.write({"a": {"x": [1.0, 2.0]}})
    second.write({"a": {"x": [10.0, 0.0], "y": [1.0, 1.0]}})
    assert merge(first.all()) == merge(second.all()) == {"a": {"x": [11.0, 2.0], "y": [1.0, 1.0]}}
    assert SharedCounts(memory, 2, 0).own() == {"a": {"x": [1.0, 2.0]}}
    first.write({"big": {"x" * 2_000_000: [1.0]}})
    assert first.own() == {"a": {"x": [1.0, 2.0]}}
