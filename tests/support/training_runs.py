"""A toy task, soft labels of it, and settings with which a tiny encoder learns it in a second or two."""

import random

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    PreTrainedTokenizerFast,
)

from potstill.contract.soft_label import SoftLabel, write_soft_labels
from potstill.contract.task import Example, Label, Task
from potstill.contract.texts import Text, text_id
from potstill.trainer.config import TrainConfig

LABELS = ["up", "flat", "down"]


CLUES = {"up": ["rise", "calls"], "flat": ["stay", "range"], "down": ["fall", "puts"]}


FILLERS = ["the", "price", "will", "today", "maybe", "acme", "and", "so", "on", "it", "goes", "they", "say"]


SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


QUICK = {"learning_rate": 6e-3, "head_rate": 6e-3, "batch_size": 8, "epochs": 6, "threads": 1, "max_tokens": 16}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("backbone")
    vocabulary = [*SPECIAL, *FILLERS, *(word for words in CLUES.values() for word in words)]
    torch.manual_seed(0)
    BertModel(
        BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=64,
            initializer_range=0.2,
        )
    ).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    return folder


def a_task(**changes):
    labels = [Label(name=name, meaning=f"the price goes {name}") for name in LABELS]
    examples = [Example(text="rise", rationale="it says so", label="up")]
    return Task(
        **{"format": 1, "name": "moves", "question": "?", "guideline": "", "labels": labels, "examples": examples} | changes
    )


def a_text(rng, label):
    words = [*rng.choices(FILLERS, k=rng.randint(2, 6)), rng.choice(CLUES[label])]
    rng.shuffle(words)
    return " ".join(words)


def soft_label(text, label, task, votes=8, **changes):
    counts = {name: votes if name == label else 0 for name in LABELS}
    counts[LABELS[LABELS.index(label) - 1]] += 8 - votes
    row = {
        "id": text_id(text, changes.get("target")),
        "text": text,
        "probs": {name: count / 8 for name, count in counts.items()},
        "votes": counts,
        "agreement": max(counts.values()) / 8,
        "n_paths": 8,
        "entropy": 0.0,
        "label_mass": 1.0,
        "method": "votes",
        "teacher_digest": "t" * 64,
        "task_digest": task.digest,
    }
    return SoftLabel(**row | changes)


def toy_rows(n, task, labels=LABELS):
    """Texts whose label is in one word; one teacher vote in eight or so is wrong."""
    rng = random.Random(0)
    rows = {}
    while len(rows) < n:
        label = labels[len(rows) % len(labels)]
        row = soft_label(a_text(rng, label), label, task, votes=rng.choice([5, 7, 8, 8]))
        rows.setdefault(row.id, row)
    return list(rows.values())


def gold_texts(n=90):
    rng = random.Random(1)
    texts = {text: label for label in LABELS for text in (a_text(rng, label) for _ in range(n // 3))}
    return [Text(text=text, id=text_id(text, None), gold=label) for text, label in texts.items()]


@pytest.fixture(scope="module")
def soft_labels(tmp_path_factory):
    path = tmp_path_factory.mktemp("labels") / "soft_labels.jsonl"
    write_soft_labels(path, toy_rows(400, a_task()))
    return path


def write(path, rows):
    write_soft_labels(path, rows)
    return path


def quick(backbone, **changes):
    return TrainConfig(**{"backbone": str(backbone), **QUICK, **changes})


def until_step(process, wanted):
    for line in process.stdout:
        if int(line) >= wanted:
            return
    raise AssertionError(process.stderr.read())
