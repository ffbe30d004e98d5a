"""A new charformer: drawn at random, over bytes, with a tokenizer file that makes bytes of any text."""

from __future__ import annotations

from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from potstill.contract.errors import UserError
from potstill.networks.charformer import CharformerConfig, CharformerForSequenceClassification
from potstill.trainer.config import find_recipe
from potstill.trainer.students import tokenizer as tokens
from potstill.trainer.students.encoder import Encoder

MARKS = ("[PAD]", "[SEP]", "[MASK]")
MIN_BYTES = 16
MAX_BYTES = 4096  # attention over a quarter as many positions still fits a small machine


def fresh(labels: list[str], *, max_bytes: int, pair: bool) -> Encoder:
    """A charformer drawn from torch's generator.

    Args:
        labels: in output order.
        max_bytes: longer texts are truncated; marks count.
        pair: whether text and target are read as a pair; they differ by their token types in either case.
    Raises:
        UserError: if ``max_bytes`` does not suit it.
    """
    if not MIN_BYTES <= max_bytes <= MAX_BYTES:
        per = find_recipe("charformer").ids_per_token
        allowed = f"{MIN_BYTES // per} to {MAX_BYTES // per}"
        raise UserError(f"max_tokens is {max_bytes // per}; a charformer, which reads {per} bytes for each, allows {allowed}")
    tokenizer = tokens.cut_at(byte_tokenizer(), max_bytes)
    config = CharformerConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=max_bytes,
        pair=pair,
        pad_token_id=tokenizer.pad_token_id,
        problem_type="single_label_classification",
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={name: i for i, name in enumerate(labels)},
    )
    return Encoder(CharformerForSequenceClassification(config), tokenizer)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Every byte of a text's UTF-8 is a token, and a mark ends the text and its target.

    It is a BPE without merges over the 256 stand-ins for bytes, so any runtime that reads a `tokenizer.json` can run it.
    """
    alphabet = [*MARKS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in MARKS])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A [SEP]", pair="$A [SEP] $B:1 [SEP]:1", special_tokens=[("[SEP]", MARKS.index("[SEP]"))]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", sep_token="[SEP]", mask_token="[MASK]")
