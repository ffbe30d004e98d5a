"""A WordPiece tokenizer without the words that no text of ours has, so that a static student stays small.

Texts whose words are all kept get the same tokens as before. A word that is gone is spelled with shorter pieces: every piece of
one character stays.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

MARKS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def pruned(tokenizer: PreTrainedTokenizerFast, used: Collection[int]) -> tuple[PreTrainedTokenizerFast, list[int]]:
    """(the tokenizer with the used tokens and the shortest pieces alone, the old id of each new one).

    A tokenizer that is not WordPiece comes back whole: the merges of others depend on one another.

    Args:
        tokenizer: left as it was.
        used: ids that occur in the texts.
    """
    layout: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    whole = list(range(max(tokenizer.get_vocab().values()) + 1))
    if layout["model"]["type"] != "WordPiece":
        return tokenizer, whole
    prefix = layout["model"]["continuing_subword_prefix"]
    vocabulary: dict[str, int] = layout["model"]["vocab"]
    special = {token["id"] for token in layout["added_tokens"]} | {vocabulary[layout["model"]["unk_token"]]}
    asked = special | set(used)
    kept = sorted((i, token) for token, i in vocabulary.items() if i in asked or len(token.removeprefix(prefix)) == 1)
    new = {old: i for i, (old, _) in enumerate(kept)}
    if not special <= new.keys():  # added beside the vocabulary: their ids follow it, and would have to be moved
        return tokenizer, whole
    layout["model"]["vocab"] = {token: new[old] for old, token in kept}
    for token in layout["added_tokens"]:
        token["id"] = new[token["id"]]
    _renumber(layout.get("post_processor"), new)
    marks = {name: getattr(tokenizer, name) for name in MARKS if getattr(tokenizer, name) is not None}
    small = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(layout)), model_max_length=tokenizer.model_max_length, **marks
    )
    return small, [old for old, _ in kept]


def _renumber(processor: dict[str, Any] | None, new: dict[int, int]) -> None:
    """Put the new ids into what adds the special tokens, in place."""
    for part in [processor, *((processor or {}).get("processors") or [])] if processor else []:
        for mark in ("sep", "cls"):
            if mark in part:
                part[mark] = [part[mark][0], new[part[mark][1]]]
        for token in (part.get("special_tokens") or {}).values():
            token["ids"] = [new[i] for i in token["ids"]]
