"""A checkpoint of a tiny BERT with the soft labels that it was trained on, for tests of the export."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoModelForSequenceClassification, BertConfig, PreTrainedTokenizerFast

from potstill.contract.checkpoint import Student, write_student
from potstill.contract.soft_label import SoftLabel, write_soft_labels
from potstill.contract.task import Example, Input, Label, Task, task_to_json
from potstill.contract.texts import Text, text_id, write_texts
from potstill.export.config import ExportConfig
from potstill.export.graph import torch_threads

LABELS = ["up", "flat", "down"]


WORDS = [
    "the",
    "price",
    "will",
    "rise",
    "fall",
    "stay",
    "acme",
    "today",
    "never",
    "always",
    "soon",
    "very",
    "much",
    "calls",
    "puts",
]


N_VALIDATION = 40  # of the 60 labelled texts; the others are the further texts of the gate


# An untrained net decides by a hair; and one this small is no faster in int8, so the form is asked for.
LOOSE = ExportConfig(max_drop=0.2, min_agreement=0.8, max_change=0.5, variant="static_int8", threads=1)


def write_checkpoint(folder: Path, *, target: bool = False, seed: int = 0) -> Path:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = [*special, *WORDS, *"abcdefghijklmnopqrstuvwxyz.,!?", *(f"##{one}" for one in "abcdefghijklmnopqrstuvwxyz")]
    fillers = ("w" + "".join(letters) for letters in itertools.product("abcdefghijklmnopqrstuvwxyz", repeat=3))
    vocabulary += itertools.islice(fillers, 2100 - len(vocabulary))  # enough rows for an int8 table
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=40,
        initializer_range=0.25,
        num_labels=3,
    )
    model = AutoModelForSequenceClassification.from_config(config).eval()
    model.save_pretrained(folder)
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.enable_truncation(32)
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), special, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)

    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, rng.integers(2, 20))) for _ in range(90)]
    about = "acme" if target else None
    with torch_threads(1), torch.inference_mode():
        encodings = [tokenizer.encode(text, about) if target else tokenizer.encode(text) for text in texts]
        inputs = [{"input_ids": torch.tensor([e.ids]), "token_type_ids": torch.tensor([e.type_ids])} for e in encodings]
        probs = np.concatenate([torch.softmax(model(**one).logits.double(), 1).numpy() for one in inputs])
    rows = {}
    for text, row in zip(texts[:60], probs, strict=False):
        votes = {name: 8 * (i == row.argmax()) for i, name in enumerate(LABELS)}
        label = SoftLabel(
            id=text_id(text, about),
            text=text,
            target=about,
            probs=dict(zip(LABELS, row.tolist(), strict=True)),
            votes={name: int(n) for name, n in votes.items()},
            agreement=1.0,
            n_paths=8,
            entropy=0.5,
            label_mass=1.0,
            method="mean",
            teacher_digest="t",
            task_digest="d",
        )
        rows[label.id] = label
    write_soft_labels(folder / "validation.jsonl", list(rows.values())[:N_VALIDATION])
    write_soft_labels(folder / "gate.jsonl", list(rows.values())[N_VALIDATION:])
    (folder / "calibration.jsonl").write_bytes(write_texts([Text(text, target=about) for text in texts[60:]]))
    examples = [Example(text=f"it will {name}", rationale="it says so", label=name, target=about) for name in LABELS]
    labels = [Label(name=name, meaning=f"the price goes | {name}") for name in LABELS]
    task = Task(
        format=1,
        name="tiny",
        question="Where to?",
        guideline="Guess.",
        labels=labels,
        examples=examples,
        input=Input(target=target),
    )
    (folder / "task.json").write_bytes(task_to_json(task))
    student = Student(
        format=1,
        task_name="tiny",
        labels=LABELS,
        family="encoder",
        target=target,
        max_tokens=32,
        temperature=1.25,
        thresholds={"up": 0.5},
        loss="reg",
        seed=0,
        task_digest=task.digest,
        soft_labels_digest="s",
        teacher_digest="t",
        backbone="tiny",
        backbone_digest="b",
        n_train=60,
        n_validation=N_VALIDATION,
        scores={},
    )
    write_student(folder, student)
    return folder
