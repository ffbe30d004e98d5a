"""A toy task for what happens after training: three labels, each with words that give it away, and an encoder small enough to train in seconds."""

import random
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from potstill.contract.soft_label import SoftLabel, write_soft_labels
from potstill.contract.task import Example, Input, Label, Task
from potstill.contract.texts import Text, text_id, write_texts
from potstill.trainer.config import TrainConfig
from potstill.trainer.run import train

LABELS = ["up", "flat", "down"]
CLUES = {"up": ["rise", "calls"], "flat": ["stay", "range"], "down": ["fall", "puts"]}
FILLERS = ["the", "price", "will", "today", "maybe", "acme", "and", "so", "on", "it", "goes", "they", "say"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
QUICK = {"learning_rate": 6e-3, "head_rate": 6e-3, "batch_size": 8, "epochs": 12, "threads": 1, "max_tokens": 16}


def a_task(target=False):
    labels = [Label(name=name, meaning=f"the price goes {name}") for name in LABELS]
    about = "acme" if target else None
    examples = [Example(text=name, rationale="it says so", label=name, target=about) for name in LABELS]
    return Task(format=1, name="moves", question="?", guideline="", labels=labels, examples=examples, input=Input(target=target))


def write_backbone(folder: Path) -> Path:
    """A random BERT of two layers that knows the words of the task."""
    vocabulary = [*SPECIAL, *FILLERS, *(word for words in CLUES.values() for word in words)]
    vocabulary += [f"w{i}" for i in range(2100 - len(vocabulary))]  # enough rows for an int8 table
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = BertConfig(vocab_size=len(vocabulary), max_position_embeddings=64, initializer_range=0.2, **shape)
    BertModel(config).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token"), SPECIAL, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    return folder


def a_text(rng, label):
    words = [*rng.choices(FILLERS, k=rng.randint(2, 6)), rng.choice(CLUES[label])]
    rng.shuffle(words)
    return " ".join(words)


def soft_label(text, label, task, votes=8, **changes):
    """A row with `votes` of 8 paths for the label and the rest for the one before it."""
    counts = dict.fromkeys(LABELS, 0) | {label: votes}
    counts[LABELS[LABELS.index(label) - 1]] += 8 - votes
    row = {
        "id": text_id(text, changes.get("target")), "text": text, "probs": {name: count / 8 for name, count in counts.items()},
        "votes": counts, "agreement": max(counts.values()) / 8, "n_paths": 8, "entropy": 0.0, "label_mass": 1.0, "method": "votes",
        "teacher_digest": "t" * 64, "task_digest": task.digest,
    }  # fmt: skip
    return SoftLabel(**row | changes)


def toy_rows(n, task, seed=0):
    """Texts that hold their label's word; one teacher vote in eight or so is wrong."""
    rng = random.Random(seed)
    rows = {}
    while len(rows) < n:
        label = LABELS[len(rows) % 3]
        row = soft_label(a_text(rng, label), label, task, votes=rng.choice([4, 5, 7, 8, 8]))
        rows.setdefault(row.id, row)
    return list(rows.values())


def gold_texts(n=90, seed=1):
    """About n texts with their labels, no text twice."""
    rng = random.Random(seed)
    texts = {text: label for label in LABELS for text in (a_text(rng, label) for _ in range(n // 3))}
    return [Text(text=text, id=text_id(text, None), gold=label) for text, label in texts.items()]


def write_gold(path: Path, texts, names=None) -> Path:
    """The texts as JSON lines, their labels under other names if there are any."""
    path.write_bytes(write_texts(Text(text.text, text.id, text.target, (names or {}).get(text.gold, text.gold)) for text in texts))
    return path


def trained_student(folder: Path, n=400):
    """(checkpoint, soft-label file) of a student that has learned the task."""
    soft_labels = folder / "soft_labels.jsonl"
    write_soft_labels(soft_labels, toy_rows(n, a_task()))
    config = TrainConfig(backbone=str(write_backbone(folder / "backbone")), loss="soft_ce", **QUICK)
    train(a_task(), soft_labels, folder / "student", config)
    return folder / "student", soft_labels
