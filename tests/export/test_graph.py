from __future__ import annotations

import logging
import sys
import warnings

import numpy as np
import onnxruntime as ort
import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from potstill.contract.errors import FormatError
from potstill.export.config import STATIC
from potstill.export.gate.graph_checks import loaded_operators, wrong_products
from potstill.export.graph import OPTIMUM, TORCH, export_float, fuse, has_optimum, quiet, torch_threads
from potstill.export.quantization.int8 import static_int8
from potstill.export.quantization.smoothing import weight_products
from potstill.serve.runtime.session import session_options

pytestmark = pytest.mark.slow

MAX_TOKENS = 29  # of the texts below
SIZE = {"vocab_size": 200, "num_labels": 3, "initializer_range": 0.2, "max_position_embeddings": 40}
BERT = {**SIZE, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
DISTILBERT = {**SIZE, "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
FAMILIES = {"bert": BERT, "roberta": {**BERT, "pad_token_id": 1}, "distilbert": DISTILBERT, "mpnet": {**BERT, "pad_token_id": 1}}


def with_exporter(exporter):
    """Skip what optimum would write where it is not installed, as beside transformers 5."""
    if exporter == OPTIMUM and not has_optimum():
        pytest.skip("optimum is not installed")
    return exporter


@pytest.mark.parametrize("exporter", [OPTIMUM, TORCH])
@pytest.mark.parametrize("family", list(FAMILIES))
def test_float_fused_and_int8_graphs_answer_like_torch_for_every_family(tmp_path, family, exporter):
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model(family, **FAMILIES[family])).eval()
    model.save_pretrained(tmp_path / "checkpoint")
    (tmp_path / "scratch").mkdir()
    graph = export_float(tmp_path / "checkpoint", tmp_path / "scratch", MAX_TOKENS, with_exporter(exporter))
    names = [node.name for node in graph.graph.input]
    rng = np.random.default_rng(0)
    values = {"input_ids": lambda n: rng.integers(5, 200, (1, n)), "attention_mask": lambda n: np.ones((1, n), np.int64)}
    values["token_type_ids"] = lambda n: np.zeros((1, n), np.int64)
    feeds = [{name: values[name](n) for name in names} for n in range(4, 30)]
    with torch_threads(1), torch.inference_mode():
        expected = np.concatenate(
            [model(**{name: torch.from_numpy(value) for name, value in feed.items()}).logits for feed in feeds]
        )

    def logits(proto):
        session = ort.InferenceSession(proto.SerializeToString(), session_options(threads=1), providers=["CPUExecutionProvider"])
        return np.concatenate([session.run(["logits"], feed)[0] for feed in feeds])

    np.testing.assert_allclose(logits(graph), expected, atol=1e-4)
    places = {"bert": MAX_TOKENS, "distilbert": MAX_TOKENS}.get(family, SIZE["max_position_embeddings"])
    (table,) = [tensor for tensor in graph.graph.initializer if "position_embeddings" in tensor.name]
    assert table.dims[0] == places  # the others count places from the text
    fused = fuse(graph, tmp_path / "checkpoint", tmp_path)
    assert (fused is None) == (family == "mpnet")  # its attention has a bias of its own, which no pattern knows
    if fused is not None:
        np.testing.assert_allclose(logits(fused), expected, atol=1e-4)
    int8 = static_int8(fused or graph, feeds, tmp_path)
    assert wrong_products(STATIC, loaded_operators(int8, tmp_path), len(weight_products(graph))) == ""
    assert np.abs(logits(int8) - expected).mean() < 0.12 * expected.std()


def test_both_exporters_write_the_same_answers_and_int8_labels_of_the_real_backbone(tmp_path, minilm):
    """MiniLM with a random head, 200 texts of up to 40 tokens; float answers to 1e-5, the int8 label of every text."""
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(minilm, num_labels=3)
    AutoModelForSequenceClassification.from_pretrained(minilm, config=config).eval().save_pretrained(tmp_path / "checkpoint")
    rng = np.random.default_rng(0)
    lengths = rng.integers(4, 40, 200)
    feeds = [
        {"input_ids": rng.integers(1000, 30000, (1, n)), "attention_mask": np.ones((1, n), np.int64), "token_type_ids": np.zeros((1, n), np.int64)}
        for n in lengths
    ]  # fmt: skip
    answers, labels = [], []
    for exporter in (OPTIMUM, TORCH):
        scratch = tmp_path / exporter
        scratch.mkdir()
        graph = export_float(tmp_path / "checkpoint", scratch, 40, with_exporter(exporter))
        fused = fuse(graph, tmp_path / "checkpoint", scratch)
        assert [node.op_type for node in fused.graph.node].count("MultiHeadAttention") == config.num_hidden_layers
        int8 = static_int8(fused, feeds[:32], scratch)
        for found, proto in ((answers, graph), (labels, int8)):
            session = ort.InferenceSession(
                proto.SerializeToString(), session_options(threads=1), providers=["CPUExecutionProvider"]
            )
            found.append(np.concatenate([session.run(["logits"], feed)[0] for feed in feeds]))
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-5)
    np.testing.assert_array_equal(labels[0].argmax(axis=1), labels[1].argmax(axis=1))
    np.testing.assert_allclose(labels[0], labels[1], atol=1e-5)


def test_without_optimum_the_graph_is_traced_here_and_one_that_is_asked_for_is_missing(tmp_path, monkeypatch):
    config = AutoConfig.for_model("bert", **BERT)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "checkpoint")
    monkeypatch.setitem(sys.modules, "optimum", None)
    monkeypatch.setitem(sys.modules, "optimum.exporters.onnx", None)
    assert not has_optimum()
    graph = export_float(tmp_path / "checkpoint", tmp_path, MAX_TOKENS)
    assert graph.graph.output[0].name == "logits"
    with pytest.raises(ModuleNotFoundError):
        export_float(tmp_path / "checkpoint", tmp_path, MAX_TOKENS, OPTIMUM)


def test_a_folder_without_a_classifier_is_refused_in_one_line(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "no-such-model"}')
    with pytest.raises(FormatError, match="is not a sequence classifier that can be exported: ") as caught:
        export_float(tmp_path, tmp_path / "scratch", MAX_TOKENS)
    assert "\n" not in str(caught.value)


def test_chatter_is_kept_off_the_console_and_logging_is_as_before(capfd):
    with quiet():
        sys.stdout.write("chatter")
        sys.stderr.write("chatter")
        warnings.warn("chatter", DeprecationWarning, stacklevel=1)
        logging.getLogger("somebody").warning("chatter")
    assert capfd.readouterr() == ("", "")
    assert logging.root.manager.disable == logging.NOTSET


def test_optimum_beside_transformers_5_is_not_asked(monkeypatch):
    """Its releases cannot be imported there; a user may have installed one after the other all the same."""
    monkeypatch.setattr("potstill.export.graph.importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr("potstill.export.graph.transformers_version", "5.24.0")
    assert not has_optimum()
    monkeypatch.setattr("potstill.export.graph.transformers_version", "4.57.6")
    assert has_optimum()
