from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from commands.main import run as console
from contract.bundle import Golden, Manifest, Provenance, write_golden, write_manifest, write_sums
from serve.bench import BenchConfig, bench
from serve.classifier import Classifier
from serve.session import open_session
from serve.tokenize import Tokenize

KEYS = ["limit_p50_ms", "p50_ms", "p95_ms", "p99_ms", "texts_per_s", "start_s", "rss_mb", "bytes", "n", "tokens_p50", "threads"]

LABELS = ["up", "flat", "down"]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghijklmnopqrstuvwxyz!?.", "price", "rise", "fall", "stay", "the", "will"]


def a_graph() -> bytes:
    """Mean of word vectors, and a dense layer: ids int64 [B, T] in, logits float32 [B, 3] out."""
    rng = np.random.default_rng(0)
    weights = {"table": rng.normal(size=(len(WORDS), 8)), "dense": rng.normal(size=(8, 3)), "bias": rng.normal(size=3)}
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["vectors"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Mul", ["vectors", "column"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "middle"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["column", "middle"], ["count"], keepdims=0),
        helper.make_node("Div", ["sum", "count"], ["mean"]),
        helper.make_node("Gemm", ["mean", "dense", "bias"], ["logits"]),
    ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["B", "T"]) for name in ("input_ids", "attention_mask")]
    constants = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    constants += [numpy_helper.from_array(np.array([at]), name) for name, at in (("last", 2), ("middle", 1))]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", 3])]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


def a_tokenizer() -> bytes:
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer.to_str().encode()


def a_manifest(**changes) -> Manifest:
    origin = Provenance(
        task_digest="a", teacher_digest="b", backbone="tiny", backbone_digest="c", soft_labels_digest="d", loss="reg", n_train=9
    )
    parts = {
        "format": 1,
        "name": "tiny",
        "labels": LABELS,
        "target": False,
        "max_tokens": 16,
        "temperature": 1.5,
        "thresholds": None,
    }
    return Manifest(**{**parts, "variant": "float", "batch_invariant": True, "scores": {}, "provenance": origin, **changes})


def write_bundle(folder: Path, **changes) -> Path:
    texts = ["the price will rise!", "fall", "stay. stay?"]
    folder.mkdir()
    manifest = a_manifest(**changes)
    (folder / "model.onnx").write_bytes(a_graph())
    (folder / "tokenizer.json").write_bytes(a_tokenizer())
    (folder / "quality.json").write_bytes(b"{}\n")
    write_manifest(folder, manifest)
    tokenize = Tokenize(folder / "tokenizer.json", manifest.max_tokens, ["input_ids", "attention_mask"])
    classifier = Classifier(manifest, tokenize, open_session(folder / "model.onnx"))
    targets = ["the price"] * len(texts) if manifest.target else None
    rows = classifier.probs(texts, targets).tolist()
    target = targets[0] if targets else None
    write_golden(folder, [Golden(text=text, probs=row, target=target) for text, row in zip(texts, rows, strict=True)])
    write_sums(folder)
    return folder


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
