"""A pool check for a person, and for a program."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from potstill.trainer.pool_check.check import WARN_ABOVE, PoolCheck
from potstill.trainer.pool_check.differences import Quartiles, Shares
from potstill.trainer.text_table import aligned

# What to do about a trait that the pool has more of, where that is easy.
_CURES = {
    "a title (short first line, then a blank one)": "cut titles",
    "a line break": "put each text on one line",
    "a URL": "cut URLs",
    "markdown": "take markdown out",
    "HTML": "take HTML out",
}


def as_text(check: PoolCheck) -> str:
    """The AUC, and what the two sides differ in."""
    blocks = [_head(check), _auc(check), _lengths(check), *_differences(check), _what_to_do(check)]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def as_json(check: PoolCheck) -> bytes:
    """One JSON object: the fields of the check, and whether it is a warning, and what to do."""
    return msgspec.json.encode({"warning": check.warns, "advice": advice(check), **msgspec.to_builtins(check)})


def warning(check: PoolCheck) -> str:
    """One line, or nothing if there is no need for one."""
    if not check.warns:
        return ""
    return (
        f"warning: pool and target texts are easy to tell apart (AUC {check.auc.value:.3f}, over {WARN_ABOVE}): "
        "what a student learns from such a pool may not hold for the target texts"
    )


def advice(check: PoolCheck) -> list[str]:
    """What brings the pool closer to the target texts, a line each; nothing if there is no warning."""
    if not check.warns:
        return []
    found = check.found
    lines = []
    if found.pool_length.median > found.target_length.high or found.pool_length.median < found.target_length.low:
        low, high = found.target_length.low, found.target_length.high
        lines.append(f"drop or cut pool texts by length: half of the target texts have {low:.0f} to {high:.0f} characters")
    for row in found.traits:
        if row.pool > row.target:
            cure = _CURES.get(row.name, f"take fewer texts with {row.name}")
        else:
            cure = f"take more texts with {row.name}"
        lines.append(f"{cure} ({row.pool:.0%} of the pool, {row.target:.0%} of the target texts)")
    if check.auc_by_words.value > WARN_ABOVE:
        lines.append("the words differ too: take texts from where the target texts come from, such as comments instead of posts")
    return [*lines, "then check again"]


def _head(check: PoolCheck) -> list[str]:
    """What was compared, and what was left out."""
    lines = [f"{check.n_each} of {check.n_pool} pool texts against {check.n_each} of {check.n_target} target texts"]
    repeated = [f"{n} {side}" for n, side in zip(check.n_repeated, ("in the pool", "in the target"), strict=True) if n]
    left_out = [f"repeats ({', '.join(repeated)})"] if repeated else []
    if check.n_shared:
        left_out.append(f"{check.n_shared} texts that stand on both sides")
    return [*lines, *([f"left out: {', '.join(left_out)}"] if left_out else [])]


def _auc(check: PoolCheck) -> list[str]:
    """How well they can be told apart, and by what."""
    rows = [
        ["told apart by", "AUC (0.5: not at all, 1: always)"],
        ["everything", check.auc.as_text()],
        ["words alone", check.auc_by_words.as_text()],
        ["lengths and traits alone", check.auc_by_form.as_text()],
    ]
    return aligned(rows)


def _lengths(check: PoolCheck) -> list[str]:
    """Quartiles on both sides."""
    sides = {"pool": check.found.pool_length, "target": check.found.target_length}
    return aligned([["characters", "quarter", "median", "three quarters"], *([name, *_row(each)] for name, each in sides.items())])


def _row(found: Quartiles) -> list[str]:
    """The three, as whole characters."""
    return [f"{value:.0f}" for value in (found.low, found.median, found.high)]


def _differences(check: PoolCheck) -> list[list[str]]:
    """A table for each kind of difference that there is."""
    tables = {
        "texts with": check.found.traits,
        "words of the pool": check.found.pool_words,
        "words of the target": check.found.target_words,
    }
    return [_shares(title, rows) for title, rows in tables.items() if rows]


def _shares(title: str, rows: Sequence[Shares]) -> list[str]:
    """Shares of texts on both sides."""
    return aligned([[title, "pool", "target"], *([row.name, f"{row.pool:.1%}", f"{row.target:.1%}"] for row in rows)])


def _what_to_do(check: PoolCheck) -> list[str]:
    """The advice under a heading."""
    lines = advice(check)
    return ["what to do:", *(f"  {line}" for line in lines)] if lines else []
