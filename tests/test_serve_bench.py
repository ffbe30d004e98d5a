from __future__ import annotations

import json

import pytest
from tiny_bundle import write_bundle

from commands.main import run as console
from serve.bench import BenchConfig, bench

KEYS = ["limit_p50_ms", "p50_ms", "p95_ms", "p99_ms", "texts_per_s", "start_s", "rss_mb", "bytes", "n", "tokens_p50", "threads"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("bench") / "bundle")


def test_the_command_prints_every_figure_as_json(bundle, capsys):
    assert console(["bench", "bundle", str(bundle), "--n", "20", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == KEYS
    assert found["n"] == 20
    assert 0 < found["limit_p50_ms"] <= found["p50_ms"] <= found["p95_ms"] <= found["p99_ms"]
    assert found["bytes"] == sum(path.stat().st_size for path in bundle.iterdir())
    assert 0.02 < found["start_s"] < 30
    assert 20 < found["rss_mb"] < 150


def test_texts_of_a_file_are_timed_instead_of_the_golden_ones(bundle, tmp_path):
    path = tmp_path / "texts.csv"
    path.write_text("text\nrise and fall and stay\n")
    report = bench(bundle, BenchConfig(texts=path, n=5, n_starts=1))
    assert (report.n, report.tokens_p50) == (5, 7)
    assert report.as_text().splitlines()[1].endswith("on the same token ids (7 at the median)")


def test_pairs_are_timed_too(tmp_path):
    assert bench(write_bundle(tmp_path / "pairs", target=True), BenchConfig(n=5, n_starts=1)).tokens_p50 > 5
