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
from potstill.export.graph import export_float, fuse, quiet, torch_threads
from potstill.export.quantization.int8 import static_int8
from potstill.export.quantization.smoothing import weight_products
from potstill.serve.runtime.session import session_options

pytestmark = pytest.mark.slow

MAX_TOKENS = 29  # of the texts below
SIZE = {"vocab_size": 200, "num_labels": 3, "initializer_range": 0.2, "max_position_embeddings": 40}
BERT = {**SIZE, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
DISTILBERT = {**SIZE, "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
FAMILIES = {"bert": BERT, "roberta": {**BERT, "pad_token_id": 1}, "distilbert": DISTILBERT, "mpnet": {**BERT, "pad_token_id": 1}}


@pytest.mark.parametrize("family", list(FAMILIES))
def test_float_fused_and_int8_graphs_answer_like_torch_for_every_family(tmp_path, family):
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model(family, **FAMILIES[family])).eval()
    model.save_pretrained(tmp_path / "checkpoint")
    (tmp_path / "scratch").mkdir()
    graph = export_float(tmp_path / "checkpoint", tmp_path / "scratch", MAX_TOKENS)
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


def test_a_folder_without_a_classifier_is_refused_in_one_line(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "no-such-model"}')
    with pytest.raises(FormatError, match="is not a sequence classifier that optimum can export: ") as caught:
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
