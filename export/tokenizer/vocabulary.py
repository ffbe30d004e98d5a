"""Prune the vocabulary in a `tokenizer.json`; a text whose pieces are all kept is tokenized as before.

The pieces kept are those asked for, special tokens, and what the rest is spelled with: single characters, bytes, and pieces with a
character that has no piece of its own. So nothing becomes unknown that was not unknown before.

Why a text keeps its pieces, by the kind of model:

- WordPiece takes the longest piece that fits, from the left. If that piece is kept, a smaller vocabulary has no longer one.
- Unigram takes the sequence with the highest score. If all its pieces are kept it is still there, and no new rival can be.
  The piece with the lowest score is kept, because the score of unknown characters is derived from it.
- BPE always applies the earliest merge that fits. With a piece all merges that make it are kept, and in turn their parts; so the
  earliest merge of the whole vocabulary is at every step also the earliest of those kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from potstill.contract.errors import FormatError

KINDS = ("WordPiece", "Unigram", "BPE")


@dataclass(frozen=True)
class PrunedTokenizer:
    """A tokenizer with a smaller vocabulary."""

    layout: dict[str, Any]  # content of `tokenizer.json`
    kept: list[int]  # old ids; the index is the new id


def prune_tokenizer(path: Path, layout: dict[str, Any], used: set[int]) -> PrunedTokenizer:
    """Prune a `tokenizer.json` to the used pieces and those that the rest is spelled with.

    Args:
        path: of the file, for messages.
        layout: its content; not changed.
        used: ids of the pieces to keep.
    Raises:
        FormatError: if its model is not one of `KINDS`, or `tokenizers` would assign other ids to the kept pieces.
    """
    layout = json.loads(json.dumps(layout))
    model = layout["model"]
    if model.get("type") not in KINDS:
        raise FormatError(path, "model.type", f"is {model.get('type')!r}; a vocabulary can be pruned of {', '.join(KINDS)}")
    ids = _ids(model)
    added = {token["id"]: token["content"] for token in layout.get("added_tokens", [])}
    kept_ids = used | added.keys() | {ids[piece] for piece in _spelling(model, ids)}
    if model["type"] == "BPE":
        kept_ids |= {ids[piece] for piece in _with_parts(model, {piece for piece, i in ids.items() if i in kept_ids})}
    kept = sorted(kept_ids)
    new = {old: i for i, old in enumerate(kept)}
    _cut(model, ids, new)
    for token in layout.get("added_tokens", []):
        token["id"] = new[token["id"]]
    layout["padding"] = None
    _renumber(layout.get("post_processor"), new)
    _check(path, layout, {**{piece: new[i] for piece, i in ids.items() if i in new}, **{name: new[i] for i, name in added.items()}})
    return PrunedTokenizer(layout, kept)


def _ids(model: dict[str, Any]) -> dict[str, int]:
    """The vocabulary as ids by piece."""
    if model["type"] == "Unigram":
        return {piece: i for i, (piece, _) in enumerate(model["vocab"])}
    return dict(model["vocab"])


def _spelling(model: dict[str, Any], ids: dict[str, int]) -> set[str]:
    """The pieces needed to spell any text that could be spelled before, and the unknown token."""
    prefix = (model.get("continuing_subword_prefix") or "") if model["type"] != "Unigram" else ""
    kept = {piece for piece in ids if len(piece.removeprefix(prefix)) == 1 or (piece.startswith("<0x") and piece.endswith(">"))}
    for piece in ids:
        inner = piece.startswith(prefix) and piece != prefix and prefix != ""
        body = piece.removeprefix(prefix) if inner else piece
        spelled = [body[0] if not inner else prefix + body[0], *(prefix + character for character in body[1:])] if body else []
        if any(one not in ids for one in spelled):
            kept.add(piece)
    if model["type"] == "Unigram":
        kept.add(min(model["vocab"], key=lambda row: row[1])[0])
        if model.get("unk_id") is not None:
            kept.add(model["vocab"][model["unk_id"]][0])
    elif model.get("unk_token") is not None and model["unk_token"] in ids:
        kept.add(model["unk_token"])
    return kept


def _with_parts(model: dict[str, Any], pieces: set[str]) -> set[str]:
    """The pieces with the parts of all merges that make them, recursively."""
    makers: dict[str, list[tuple[str, str]]] = {}
    for left, right in _merges(model):
        makers.setdefault(_merged(model, left, right), []).append((left, right))
    waiting, found = list(pieces), set(pieces)
    while waiting:
        for part in (one for pair in makers.get(waiting.pop(), []) for one in pair):
            if part not in found:
                found.add(part)
                waiting.append(part)
    return found


def _merges(model: dict[str, Any]) -> Iterable[tuple[str, str]]:
    """The merges in order; older files store each as one string."""
    for merge in model["merges"]:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        yield left, right


def _merged(model: dict[str, Any], left: str, right: str) -> str:
    """The piece that a merge makes."""
    return left + right.removeprefix(model.get("continuing_subword_prefix") or "")


def _cut(model: dict[str, Any], ids: dict[str, int], new: dict[int, int]) -> None:
    """Drop, in place, the pieces and merges of the model that have no new id."""
    if model["type"] == "Unigram":
        if model.get("unk_id") is not None:
            model["unk_id"] = new[model["unk_id"]]
        model["vocab"] = [row for i, row in enumerate(model["vocab"]) if i in new]
        return
    model["vocab"] = {piece: new[i] for piece, i in sorted(ids.items(), key=lambda item: item[1]) if i in new}
    if model["type"] == "BPE":
        there = model["vocab"]
        model["merges"] = [
            [left, right]
            for left, right in _merges(model)
            if left in there and right in there and _merged(model, left, right) in there
        ]


def _renumber(processor: dict[str, Any] | None, new: dict[int, int]) -> None:
    """Put the new ids of special tokens into the post-processor, in place."""
    if processor is None:
        return
    for part in [processor, *(processor.get("processors") or [])]:
        for mark in ("sep", "cls"):
            if mark in part:
                part[mark] = [part[mark][0], new[part[mark][1]]]
        special = part.get("special_tokens")
        for token in special.values() if isinstance(special, dict) else []:
            token["ids"] = [new[i] for i in token["ids"]]


def _check(path: Path, layout: dict[str, Any], expected: dict[str, int]) -> None:
    """Check that `tokenizers` reads the expected ids; raises FormatError."""
    try:
        found = Tokenizer.from_str(json.dumps(layout)).get_vocab(with_added_tokens=True)
    except ValueError as error:
        raise FormatError(path, "", f"its vocabulary cannot be pruned: {error}") from error
    if found != expected:
        wrong = next(piece for piece in {**found, **expected} if found.get(piece) != expected.get(piece))
        problem = f"its vocabulary cannot be pruned: {wrong!r} would get the id {found.get(wrong)}, not {expected.get(wrong)}"
        raise FormatError(path, "added_tokens", problem)
