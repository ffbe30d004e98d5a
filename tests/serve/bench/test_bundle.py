from __future__ import annotations

import json

import pytest
from support.tiny_bundle import unusual, write_bundle

from potstill.commands.main import run as console
from potstill.contract.texts import Text
from potstill.serve.bench.bundle import bench_bundle
from potstill.serve.bench.bundle_report import Facts
from potstill.serve.bench.config import BundleBenchConfig
from potstill.serve.bench.texts import shuffled, text_of, texts_of
from potstill.serve.config import CascadeConfig
from potstill.serve.offline.cascade import cascade_bundle

pytestmark = pytest.mark.slow

KEYS = [
    *("limit_p50_ms", "p50_ms", "p95_ms", "p99_ms", "texts_per_s", "start_s", "rss_mb", "bytes", "batch_change_max"),
    *("n", "tokens_p50", "threads", "two_workers_over_one", "variants", "own"),
]
VARIANT_KEYS = [*KEYS[:9], "by_tokens", "over_limit"]


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
    assert found["own"] == "float"
    assert list(found["variants"]) == ["limit", "float"]
    for variant in found["variants"].values():
        assert list(variant) == VARIANT_KEYS
        assert list(variant["by_tokens"]) == ["8", "16"]  # this bundle reads no more than 16
        assert all(times["n"] == 20 and 0 < times["p50_ms"] <= times["p99_ms"] for times in variant["by_tokens"].values())
        assert variant["batch_change_max"] < 1e-6
    assert {key: found["variants"]["float"][key] for key in KEYS[:9]} == {key: found[key] for key in KEYS[:9]}
    assert found["variants"]["limit"]["over_limit"] == {"mix": 1.0, "8": 1.0, "16": 1.0}
    assert found["variants"]["float"]["over_limit"]["8"] >= 1


def test_a_bundle_with_what_no_export_writes_is_timed_only_where_it_is_trusted(tmp_path, capsys):
    command = ["bench", "bundle", str(unusual(write_bundle(tmp_path / "bundle"))), "--n", "5", "--json"]
    assert console(command) == 1
    assert "operator EyeLike: is none that an export writes" in capsys.readouterr().err
    assert console([*command, "--trust"]) == 0
    assert json.loads(capsys.readouterr().out)["start_s"] > 0  # in a process of its own, which trusts it, too


def test_texts_of_a_file_are_timed_instead_of_the_golden_ones(bundle, tmp_path):
    path = tmp_path / "texts.csv"
    path.write_text("text\nrise and fall and stay\n")
    report = bench_bundle(bundle, BundleBenchConfig(texts=path, n=5, n_starts=1))
    assert (report.n, report.tokens_p50) == (5, 7)
    lines = report.as_text().splitlines()
    assert lines[0].split()[:7] == ["p50", "in", "ms", "as", "given", "8", "tok"]
    assert [line.split()[0] for line in lines[1:3]] == ["limit", "float"]
    assert lines[4].endswith("on the same token ids (7 at the median)")


def test_pairs_are_timed_too(tmp_path):
    assert bench_bundle(write_bundle(tmp_path / "pairs", target=True), BundleBenchConfig(n=5, n_starts=1)).tokens_p50 > 5


def test_other_bundles_and_peers_are_timed_on_the_same_texts(bundle, tmp_path):
    class Peer:
        name = "peer"
        seen = 0

        def times_ms(self, texts):
            self.seen += len(texts)
            return [2.0] * len(texts)

        def facts(self, texts):
            return Facts(1.5, 300.0, 7, 0.25)

    peer = Peer()
    report = bench_bundle(bundle, BundleBenchConfig(n=50, n_starts=1), {"other": write_bundle(tmp_path / "other", seed=2)}, [peer])
    assert list(report.variants) == ["limit", "float", "other", "peer"]
    assert peer.seen == 3 * 50
    told = report.variants["peer"]
    assert (told.p50_ms, told.texts_per_s, told.start_s, told.batch_change_max) == (2.0, 500.0, 1.5, 0.25)


def test_a_cascade_is_timed_as_one(bundle, tmp_path):
    (tmp_path / "texts.csv").write_text("text\nthe price will rise\nfall\nstay\n")
    fast = write_bundle(tmp_path / "fast", seed=2)
    cascade_bundle(fast, bundle, tmp_path / "texts.csv", tmp_path / "both", CascadeConfig(max_loss=1))
    assert bench_bundle(tmp_path / "both", BundleBenchConfig(n=5, n_starts=1)).own == "cascade"


@pytest.mark.parametrize("length", [5, 8, 16])
def test_texts_of_a_length_are_pieces_of_real_texts_with_that_many_tokens(length):
    texts = [Text("the price of it will rise and fall again. Or stay?"), Text("Nobody knows, and nobody says.")]
    words = " ".join(text.text for text in texts)

    def count(text):
        return 2 + len(text.text.replace(".", " .").replace("?", " ?").replace(",", " ,").split())

    found = texts_of(length, texts, 6, count)
    assert len(found) == 6
    for text in found:
        assert count(text) == length
        assert text.text in f"{words} {words} {words}"


def test_a_length_that_no_piece_has_gets_the_longest_that_fits():
    texts = texts_of(5, [Text("word " * 9)], 3, lambda text: 2 * len(text.text.split()))
    assert [text.text for text in texts] == ["word word"] * 3


def test_one_text_of_a_length_repeats_the_words_and_has_at_most_that_many_tokens():
    def count(text):
        return len(text.text.split())

    texts = [Text("one two", target="it"), Text("three")]
    assert text_of(7, texts, count) == Text("one two three one two three one", target="it")
    assert text_of(1, [Text("")], count) == Text("text")


def test_a_shuffle_keeps_every_item_and_is_the_same_each_time():
    assert sorted(shuffled(range(50))) == list(range(50)) != shuffled(range(50)) == shuffled(range(50))
