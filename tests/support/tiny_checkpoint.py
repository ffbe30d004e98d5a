"""For tests of the export: a checkpoint of the tiny BERT with soft labels that are its own answers, a graph with everything that is
quantized, and the measurements of a form that passed."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from support.tiny_backbone import LETTERS, MARKS, write_backbone, write_tokenizer
from support.toy_task import LABELS, a_task, soft_label, write_rows
from tokenizers import Tokenizer, normalizers
from transformers import AutoModelForSequenceClassification, BertForSequenceClassification

from potstill.contract.checkpoint import Student, write_student
from potstill.contract.task import Label, task_to_json
from potstill.contract.texts import Text, write_texts
from potstill.export.config import ExportConfig
from potstill.export.gate.quality import FormQuality
from potstill.export.graph import torch_threads

WORDS = "the price will rise fall stay acme today never always soon very much calls puts".split()
N_PIECES = 2100  # enough rows for an int8 table
N_VALIDATION = 40  # of the 60 labelled texts; the others are further texts of the gate

# An untrained network has close calls, and one this small is no faster in int8, so the form is asked for by name.
LOOSE = ExportConfig(max_drop=0.2, min_agreement=0.8, max_change=0.5, variant="static_int8", threads=1)


def write_checkpoint(folder: Path, *, target: bool = False, seed: int = 0) -> Path:
    """Write a checkpoint into a folder, and return the folder. Args: seed, of the random weights."""
    pieces = [*MARKS, *WORDS, *LETTERS, *".,!?", *(f"##{letter}" for letter in LETTERS)]
    fillers = ("w" + "".join(letters) for letters in itertools.product(LETTERS, repeat=3))
    pieces += itertools.islice(fillers, N_PIECES - len(pieces))
    changes = {"num_labels": 3, "initializer_range": 0.25, "max_position_embeddings": 40}
    write_backbone(folder, pieces, kind=BertForSequenceClassification, seed=seed, **changes)
    write_tokenizer(folder, pieces, normalizer=normalizers.BertNormalizer())
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, rng.integers(2, 20))) for _ in range(90)]
    about = "acme" if target else None
    labels = [Label(name=name, meaning=f"the price goes | {name}") for name in LABELS]
    task = a_task(target=target, name="tiny", question="Where to?", guideline="Guess.", labels=labels)
    rows = {}
    for text, probs in zip(texts[:60], answers(folder, texts[:60], about), strict=True):
        changes = {"target": about, "probs": dict(zip(LABELS, probs.tolist(), strict=True))}
        row = soft_label(text, LABELS[probs.argmax()], task, **changes)
        rows[row.id] = row
    write_rows(folder / "validation.jsonl", list(rows.values())[:N_VALIDATION])
    write_rows(folder / "gate.jsonl", list(rows.values())[N_VALIDATION:])
    (folder / "calibration.jsonl").write_bytes(write_texts([Text(text, target=about) for text in texts[60:]]))
    (folder / "task.json").write_bytes(task_to_json(task))
    student = Student(
        format=1, task_name="tiny", labels=LABELS, family="encoder", target=target, max_tokens=32, temperature=1.25,
        thresholds={"up": 0.5}, loss="reg", seed=0, task_digest=task.digest, soft_labels_digest="s", teacher_digest="t",
        backbone="tiny", backbone_digest="b", n_train=60, n_validation=N_VALIDATION, scores={},
    )  # fmt: skip
    write_student(folder, student)
    return folder


def answers(folder: Path, texts: list[str], about: str | None) -> np.ndarray:
    """The network's own probabilities of the texts, [N, 3]."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    encodings = [tokenizer.encode(text, about) if about else tokenizer.encode(text) for text in texts]
    with torch_threads(1), torch.inference_mode():
        inputs = [{"input_ids": torch.tensor([one.ids]), "token_type_ids": torch.tensor([one.type_ids])} for one in encodings]
        return np.concatenate([torch.softmax(model(**one).logits.double(), 1).numpy() for one in inputs])


FORM = FormQuality(
    variant="static_int8", bytes=100, ms_p50=1.0, n=1000, macro_f1=0.8, log_loss=0.5, ece=0.1, macro_f1_drop=0.0,
    macro_f1_drop_low=-0.01, agreement=1.0, flips=0, prob_change_max=0.01, batch_change_max=0.0, padding_change_max=0.0, operators={},
)  # fmt: skip


V, H, N = 3000, 32, 48


def a_graph(*, shared: bool = False) -> onnx.ModelProto:
    """Two dense layers over an embedding with a few outlier channels, and a head: ids int64 [B, T] in, logits [B, 3] out."""
    rng = np.random.default_rng(0)
    table = rng.normal(size=(V, H)) * np.where(np.arange(H) % 16 == 3, 20.0, 1.0)
    weights = {
        "table": table,
        "one": rng.normal(size=(H, N)) / 6,
        "two": rng.normal(size=(N, H)) / 7,
        "head": rng.normal(size=(H, 3)),
    }
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["x"], "gather"),
        helper.make_node("MatMul", ["x", "one"], ["y"], "first"),
        helper.make_node("Tanh", ["y"], ["z"], "tanh"),
        helper.make_node("MatMul", ["z", "two"], ["w"], "second"),
        *([helper.make_node("MatMul", ["w", "one"], ["unused"], "third")] if shared else []),
        helper.make_node("ReduceMean", ["w", "middle"], ["mean"], "mean", keepdims=0),
        helper.make_node("Gemm", ["mean", "head"], ["logits"], "head"),
    ]
    inputs = [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["B", "T"])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", 3])]
    outputs += [helper.make_tensor_value_info("unused", TensorProto.FLOAT, ["B", "T", N])] if shared else []
    constants = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    constants.append(numpy_helper.from_array(np.array([1]), "middle"))
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
