"""A real bundle of a few kilobytes: mean of word vectors and a dense layer, over single letters and some words. With one question,
or with several."""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from potstill.contract.bundle import Golden, Manifest, Provenance, write_golden, write_manifest, write_sums
from potstill.contract.promises.familiarity import Familiarity, write_familiarity
from potstill.contract.questions.decision import Conformal
from potstill.contract.questions.head import Head, flat_labels
from potstill.serve.runtime.classifier import Classifier
from potstill.serve.runtime.scorer import open_scorer

LABELS = ["up", "flat", "down"]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghijklmnopqrstuvwxyz!?.", "price", "rise", "fall", "stay", "the", "will"]


def a_graph(seed: int = 0, slow: int = 0, n_labels: int = len(LABELS), heads: list[Head] | None = None) -> bytes:
    """Mean of word vectors, and a dense layer: ids int64 [B, T] in, logits float32 [B, n_labels] out, and those of each head."""
    rng = np.random.default_rng(seed)
    weights = {"table": rng.normal(size=(len(WORDS), 8)), "dense": rng.normal(size=(8, n_labels))}
    weights["bias"] = rng.normal(size=n_labels)
    if slow:
        weights |= {"wide": rng.normal(size=(8, slow)), "tall": rng.normal(size=(slow, 1))}
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["vectors"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Mul", ["vectors", "column"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "middle"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["column", "middle"], ["count"], keepdims=0),
        helper.make_node("Div", ["sum", "count"], ["mean"]),
        helper.make_node("Gemm", ["mean", "dense", "bias"], ["scores" if slow else "logits"]),
    ]
    if slow:  # a square of that size from every text, and none of it in the logits
        nodes += [
            helper.make_node("MatMul", ["mean", "wide"], ["row"]),
            helper.make_node("Mul", ["row", "tall"], ["square"]),
            helper.make_node("Exp", ["square"], ["waves"]),
            helper.make_node("ReduceMin", ["waves"], ["least"], keepdims=0),
            helper.make_node("Clip", ["least", "zero", "zero"], ["none"]),
            helper.make_node("Add", ["scores", "none"], ["logits"]),
        ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["B", "T"]) for name in ("input_ids", "attention_mask")]
    constants = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    constants += [numpy_helper.from_array(np.array([at]), name) for name, at in (("last", 2), ("middle", 1))]
    constants += [numpy_helper.from_array(np.float32(0), "zero")] if slow else []
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", n_labels])]
    if heads:
        names = [f"logits.{head.name}" for head in heads]
        nodes.append(helper.make_node("Split", ["logits", "widths"], names, axis=1))
        constants.append(numpy_helper.from_array(np.array([len(head.labels) for head in heads]), "widths"))
        outputs += [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", len(head.labels)])
            for name, head in zip(names, heads, strict=True)
        ]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


def a_tokenizer() -> bytes:
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer.to_str().encode()


def some_heads(**changes) -> list[Head]:
    """One question of each kind, named as in `toy_questions`. Args: changes, by question a dict of fields."""
    sets = Conformal(coverage=0.9, quantile=0.8, n=100, source="teacher")
    parts = {
        "move": {"kind": "choice", "labels": LABELS, "temperature": 1.5, "bias": [0.25, 0.0, -0.25], "conformal": sets},
        "asks": {"kind": "yesno", "labels": ["yes", "no"], "bias": [-3.5, 0.0], "thresholds": {"yes": 0.75}},
        "topics": {"kind": "tags", "labels": ["news", "chart", "people"], "temperature": 0.5, "thresholds": {"chart": 0.95}},
        "sure": {"kind": "degree", "labels": ["low", "middle", "high"], "values": [0.0, 0.5, 1.0]},
    }
    return [Head(name=name, **{**fields, **changes.get(name, {})}) for name, fields in parts.items()]


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
    if changes.get("heads"):
        parts |= {"format": 2, "labels": flat_labels(changes["heads"]), "temperature": 1.0}
    return Manifest(**{**parts, "variant": "float", "batch_invariant": True, "scores": {}, "provenance": origin, **changes})


def a_familiarity(**changes) -> Familiarity:
    known = {WORDS.index(word): -1.0 for word in ("price", "rise", "fall", "stay", "the", "will", "?", "!", ".")}
    tokens = {2: 0.0, 3: 0.0, **known}
    parts = {"format": 1, "rate": 0.05, "threshold": 0.0, "n": 40, "n_counted": 300, "unseen": 0.7}
    return Familiarity(**{**parts, "tokens": sorted(tokens), "scores": [tokens[i] for i in sorted(tokens)], **changes})


def write_bundle(folder: Path, seed: int = 0, slow: int = 0, familiarity: Familiarity | None = None, **changes) -> Path:
    texts = ["the price will rise!", "fall", "stay. stay?"]
    folder.mkdir()
    manifest = a_manifest(**changes)
    (folder / "model.onnx").write_bytes(a_graph(seed, slow, len(manifest.labels), manifest.heads))
    (folder / "tokenizer.json").write_bytes(a_tokenizer())
    (folder / "quality.json").write_bytes(b"{}\n")
    write_manifest(folder, manifest)
    if familiarity is not None:
        write_familiarity(folder, familiarity)
    classifier = Classifier(manifest, open_scorer(folder / "model.onnx", folder / "tokenizer.json", manifest, len(manifest.labels)))
    targets = ["the price"] * len(texts) if manifest.target else None
    rows = classifier.probs(texts, targets).tolist()
    target = targets[0] if targets else None
    write_golden(folder, [Golden(text=text, probs=row, target=target) for text, row in zip(texts, rows, strict=True)])
    write_sums(folder)
    return folder


def unusual(bundle: Path) -> Path:
    """The bundle with an operator that no export writes."""
    model = onnx.load(bundle / "model.onnx")
    model.graph.node.append(onnx.helper.make_node("EyeLike", [model.graph.output[0].name], ["eye"]))
    onnx.save(model, bundle / "model.onnx")
    write_sums(bundle)
    return bundle


def write_gold(path, bundle, seed, share_right, n=300):
    """Texts whose gold label is the bundle's answer for a share of them, and another label for the rest."""
    rng, rows = np.random.default_rng(seed), {}
    while len(rows) < n:
        rows.setdefault(" ".join(rng.choice(["rise", "fall", "stay", "the", "will", "price", *"abcdefgh"], rng.integers(2, 9))))
    with Classifier.open(bundle) as classifier:
        for text, answer in zip(rows, classifier.classify(list(rows)), strict=True):
            others = [label for label in LABELS if label != answer.label]
            rows[text] = answer.label if rng.random() < share_right else str(rng.choice(others))
    path.write_text("".join(json.dumps({"text": text, "gold": gold}) + "\n" for text, gold in rows.items()))
    return path
