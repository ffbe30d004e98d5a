"""A checkpoint of the tiny BERT, with soft labels that are its own answers, for tests of the export."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import torch
from support.tiny_backbone import LETTERS, MARKS, write_backbone, write_tokenizer
from support.toy_task import LABELS, a_task, soft_label, write_rows
from tokenizers import Tokenizer, normalizers
from transformers import AutoModelForSequenceClassification, BertForSequenceClassification

from potstill.contract.checkpoint import Student, write_student
from potstill.contract.task import Label, task_to_json
from potstill.contract.texts import Text, write_texts
from potstill.export.config import ExportConfig
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
