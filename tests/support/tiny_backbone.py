"""A tiny encoder with a tokenizer of a few words, and texts whose label is in one word."""

import random

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from potstill.contract.soft_label import SoftLabel
from potstill.contract.task import Example, Input, Label, Task
from potstill.contract.texts import text_id

LABELS = ["up", "flat", "down"]
CLUES = {"up": ["rise", "calls"], "flat": ["stay", "range"], "down": ["fall", "puts"]}
FILLERS = ["the", "price", "will", "today", "maybe", "acme", "and", "so", "on", "it", "goes", "they", "say"]
NEVER = ["zebra", "quartz"]  # in the vocabulary, in no text
MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def write_backbone(folder):
    pieces = [*LETTERS, *(f"##{letter}" for letter in LETTERS)]
    vocabulary = [*NEVER, *MARKS, *FILLERS, *(word for words in CLUES.values() for word in words), *pieces]
    torch.manual_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = BertConfig(vocab_size=len(vocabulary), max_position_embeddings=64, initializer_range=0.2, pad_token_id=2, **size)
    BertModel(config).save_pretrained(folder)
    ids = {word: i for i, word in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    return folder


def a_task(*, target=False):
    labels = [Label(name=name, meaning=f"the price goes {name}") for name in LABELS]
    examples = [Example(text="rise", rationale="it says so", label="up", target="acme" if target else None)]
    return Task(format=1, name="moves", question="?", guideline="", labels=labels, examples=examples, input=Input(target=target))


def rows(n, task, seed=0):
    """Soft labels of different texts; the teacher is sure of each."""
    rng, made = random.Random(seed), {}
    target = "acme" if task.input.target else None
    while len(made) < n:
        label = LABELS[len(made) % 3]
        words = [*rng.choices(FILLERS, k=rng.randint(2, 6)), rng.choice(CLUES[label])]
        rng.shuffle(words)
        text = " ".join(words)
        row = SoftLabel(
            id=text_id(text, target), text=text, target=target, probs={name: float(name == label) for name in LABELS},
            votes={name: 8 * (name == label) for name in LABELS}, agreement=1.0, n_paths=8, entropy=0.0, label_mass=1.0,
            method="votes", teacher_digest="t" * 64, task_digest=task.digest,
        )  # fmt: skip
        made.setdefault(row.id, row)
    return list(made.values())
