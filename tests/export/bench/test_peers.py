"""The peers answer what the float bundle answers, in processes of their own, and are timed beside it."""

from __future__ import annotations

import numpy as np
import pytest
from support.tiny_checkpoint import LOOSE, write_checkpoint

from potstill.contract.errors import UserError
from potstill.contract.texts import Text
from potstill.export.bench.peers import OPTIMUM, TORCH, PipelineProcess, peers_of
from potstill.export.run import export_bundle
from potstill.serve.bench.bundle import bench_bundle
from potstill.serve.bench.config import BundleBenchConfig
from potstill.serve.runtime.classifier import Classifier, softmax

pytestmark = pytest.mark.slow

TEXTS = [Text("the price will rise"), Text("fall"), Text("calls and puts, " * 30)]


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A tiny checkpoint's bundle, with its float bundle and peers."""
    pytest.importorskip("optimum.onnxruntime", reason="optimum is not installed: it has no release for transformers 5")
    folder = tmp_path_factory.mktemp("peers")
    checkpoint = write_checkpoint(folder / "student")
    export_bundle(checkpoint, folder / "bundle", LOOSE)
    (folder / "scratch").mkdir()
    with peers_of(checkpoint, folder / "bundle", folder / "scratch", 1) as (others, peers):
        yield folder / "bundle", others, peers


def test_both_pipelines_give_the_float_graphs_probabilities(running):
    _, others, peers = running
    with Classifier.open(others["float"]) as classifier:
        assert classifier.manifest.variant == "float"
        expected = softmax(classifier.logits([text.text for text in TEXTS]), 1.0)  # the pipelines know no temperature
    assert [peer.name for peer in peers] == [OPTIMUM, TORCH]
    for peer in peers:
        np.testing.assert_allclose(peer.probs(TEXTS), expected, atol=1e-5)


def test_they_are_rows_of_the_report(running):
    bundle, others, peers = running
    report = bench_bundle(bundle, BundleBenchConfig(n=4, n_starts=1), others, peers)
    assert list(report.variants) == ["limit", report.own, "float", OPTIMUM, TORCH]
    for name in (OPTIMUM, TORCH):
        told = report.variants[name]
        assert 0 < told.p50_ms <= told.p99_ms and told.start_s > 0.5 and told.bytes > 100_000
        assert told.batch_change_max < 1e-4  # of float graphs
        assert told.rss_mb > report.variants["float"].rss_mb
        assert list(told.by_tokens) == list(report.variants[report.own].by_tokens)


def test_a_pipeline_that_cannot_start_is_one_line(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    peer = PipelineProcess(TORCH, tmp_path, 32, 1)
    with pytest.raises(UserError, match="the torch pipeline failed: ") as caught:
        peer.times_ms(TEXTS)
    assert "\n" not in str(caught.value)
    peer.close()
