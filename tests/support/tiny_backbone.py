"""A BERT small enough to be trained in seconds, with random weights, its tokenizer of a few words, and a student of it.

The tokenizer has every single letter, so that it reads any word.
"""

import torch
from support.toy_questions import WORDS as QUESTION_WORDS
from support.toy_questions import a_questionnaire, answer_rows
from support.toy_task import CLUES, FILLERS, a_task, quick, toy_rows, write_rows
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from potstill.contract.questions.soft_answers import write_soft_answers
from potstill.trainer.run import train

NEVER = ["zebra", "quartz"]  # in the vocabulary, in no text
MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
NAMES = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), MARKS, strict=True))
WORDS = [*FILLERS, *(word for words in CLUES.values() for word in words)]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
VOCABULARY = [*NEVER, *MARKS, *WORDS, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}


def sizes(vocabulary=VOCABULARY):
    """What a configuration of any architecture needs to know of the vocabulary."""
    return {"vocab_size": len(vocabulary), "pad_token_id": vocabulary.index("[PAD]")}


def write_backbone(folder, vocabulary=VOCABULARY, *, kind=BertModel, seed=0, **changes):
    """Write model and tokenizer; `kind` may have a head. Returns the folder."""
    torch.manual_seed(seed)
    kind(BertConfig(**{**SHAPE, **sizes(vocabulary), "initializer_range": 0.2, **changes})).save_pretrained(folder)
    return write_tokenizer(folder, vocabulary)


def write_tokenizer(folder, vocabulary=VOCABULARY, *, normalizer=None, padding=None, **names):
    """Write a WordPiece tokenizer. Args: padding, as `enable_padding` takes it; names, of special tokens (None: has none)."""
    ids = {word: i for i, word in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    if padding:
        tokenizer.enable_padding(**padding)
        tokenizer.enable_truncation(12)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **NAMES | names).save_pretrained(folder)
    return folder


def trained_student(folder, n=400, epochs=6):
    """(checkpoint, soft-label file) of a student that has learned the toy task; its vocabulary is large enough for int8."""
    vocabulary = [*VOCABULARY, *(f"w{i}" for i in range(2100 - len(VOCABULARY)))]
    soft_labels = write_rows(folder / "soft_labels.jsonl", toy_rows(n, a_task()))
    backbone = write_backbone(folder / "backbone", vocabulary)
    train(a_task(), soft_labels, folder / "student", quick(backbone, epochs=epochs))
    return folder / "student", soft_labels


def joint_student(folder, n=400, epochs=6, **changes):
    """(checkpoint, soft-label file) of a student of the four toy questions; its vocabulary is large enough for int8."""
    words = [*VOCABULARY, *QUESTION_WORDS]
    vocabulary = [*words, *(f"w{i}" for i in range(2100 - len(words)))]
    task, soft_labels = a_questionnaire(), folder / "soft_labels.jsonl"
    write_soft_answers(soft_labels, answer_rows(n, task, left_out=["asks"]))
    backbone = write_backbone(folder / "backbone", vocabulary)
    train(task, soft_labels, folder / "student", quick(backbone, epochs=epochs, **changes))
    return folder / "student", soft_labels
