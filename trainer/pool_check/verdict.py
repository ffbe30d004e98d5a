"""Check whether a pool is like the texts that a student will answer, and report the result to a person or a program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from potstill.contract.interchange.notebook import text_table
from potstill.contract.scores.record import Score
from potstill.trainer.pool_check.config import SampleConfig, TextSource
from potstill.trainer.pool_check.differences import FeatureShares, LengthQuartiles, PoolDifferences, find_differences
from potstill.trainer.pool_check.sample import sampled, without_shared
from potstill.trainer.pool_check.separability import all_features, cross_validated_auc, extract_features

WARN_ABOVE = 0.8  # AUC
# advice on a trait that the pool has more of, where there is an easy remedy
_REMEDIES = {
    "a title (short first line, then a blank one)": "cut titles",
    "a line break": "put each text on one line",
    "a URL": "cut URLs",
    "markdown": "take markdown out",
    "HTML": "take HTML out",
}


@dataclass(frozen=True)
class PoolCheck:
    """The AUC of a classifier that tells pool from target texts, and their differences."""

    auc: Score  # 0.5: cannot tell them apart, 1: always can
    auc_by_words: Score
    auc_by_form: Score  # by lengths and traits
    n_pool: int  # texts to draw from
    n_target: int
    n_each: int  # texts compared, of each side
    n_repeated: tuple[int, int]  # left out of pool and target: repeats of an earlier text
    n_shared: int  # left out: texts on both sides
    found: PoolDifferences

    @property
    def warns(self) -> bool:
        """Whether pool and target are easy to tell apart."""
        return self.auc.value > WARN_ABOVE


def check_pool(pool: TextSource, target: TextSource, config: SampleConfig) -> PoolCheck:
    """Train a classifier to tell pool from target texts, and report its AUC and the differences.

    Raises:
        UserError: if fewer than 50 different texts of a side are left without those on both sides.
    """
    left = without_shared(pool, target)
    n = min(len(left.pool), len(left.target), config.max_texts)
    ours, theirs = sampled(left.pool, n, config.seed), sampled(left.target, n, config.seed)
    read, is_pool = extract_features([*ours, *theirs]), np.arange(2 * n) < n
    return PoolCheck(
        auc=cross_validated_auc(all_features(read), is_pool, config.seed),
        auc_by_words=cross_validated_auc(read.words, is_pool, config.seed),
        auc_by_form=cross_validated_auc(read.form, is_pool, config.seed),
        n_pool=len(left.pool),
        n_target=len(left.target),
        n_each=n,
        n_repeated=left.n_repeated,
        n_shared=left.n_shared,
        found=find_differences(read, ours, theirs),
    )


# --- the result as text and JSON


def as_text(check: PoolCheck) -> str:
    """A few tables: AUC, lengths, traits, words, and advice."""
    blocks = [_head(check), _auc(check), _lengths(check), *_differences(check), _what_to_do(check)]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def as_json(check: PoolCheck) -> bytes:
    """One JSON object: the fields of the check, with `warning` and `advice`."""
    return msgspec.json.encode({"warning": check.warns, "advice": advice(check), **msgspec.to_builtins(check)})


def warning(check: PoolCheck) -> str:
    """A line of warning; empty if there is none."""
    if not check.warns:
        return ""
    return (
        f"warning: pool and target texts are easy to tell apart (AUC {check.auc.value:.3f}, over {WARN_ABOVE}): "
        "what a student learns from such a pool may not hold for the target texts"
    )


def advice(check: PoolCheck) -> list[str]:
    """Advice on bringing the pool closer to the target texts, a line each; empty without a warning."""
    if not check.warns:
        return []
    found = check.found
    lines = []
    if found.pool_length.median > found.target_length.high or found.pool_length.median < found.target_length.low:
        low, high = found.target_length.low, found.target_length.high
        lines.append(f"drop or cut pool texts by length: half of the target texts have {low:.0f} to {high:.0f} characters")
    for row in found.traits:
        if row.pool > row.target:
            remedy = _REMEDIES.get(row.name, f"take fewer texts with {row.name}")
        else:
            remedy = f"take more texts with {row.name}"
        lines.append(f"{remedy} ({row.pool:.0%} of the pool, {row.target:.0%} of the target texts)")
    if check.auc_by_words.value > WARN_ABOVE:
        lines.append("the words differ too: take texts from where the target texts come from, such as comments instead of posts")
    return [*lines, "then check again"]


def _head(check: PoolCheck) -> list[str]:
    """The numbers of texts compared and left out."""
    lines = [f"{check.n_each} of {check.n_pool} pool texts against {check.n_each} of {check.n_target} target texts"]
    repeated = [f"{n} {side}" for n, side in zip(check.n_repeated, ("in the pool", "in the target"), strict=True) if n]
    left_out = [f"repeats ({', '.join(repeated)})"] if repeated else []
    if check.n_shared:
        left_out.append(f"{check.n_shared} texts that are on both sides")
    return [*lines, *([f"left out: {', '.join(left_out)}"] if left_out else [])]


def _auc(check: PoolCheck) -> list[str]:
    """The AUC by kind of feature."""
    rows = [
        ["told apart by", "AUC (0.5: not at all, 1: always)"],
        ["everything", check.auc.as_text()],
        ["words alone", check.auc_by_words.as_text()],
        ["lengths and traits alone", check.auc_by_form.as_text()],
    ]
    return text_table(rows)


def _lengths(check: PoolCheck) -> list[str]:
    """Quartiles of the lengths on both sides."""
    sides = {"pool": check.found.pool_length, "target": check.found.target_length}
    header = ["characters", "quarter", "median", "three quarters"]
    return text_table([header, *([name, *_row(each)] for name, each in sides.items())])


def _row(found: LengthQuartiles) -> list[str]:
    """The quartiles in whole characters."""
    return [f"{value:.0f}" for value in (found.low, found.median, found.high)]


def _differences(check: PoolCheck) -> list[list[str]]:
    """A table for each kind of difference."""
    tables = {
        "texts with": check.found.traits,
        "words of the pool": check.found.pool_words,
        "words of the target": check.found.target_words,
    }
    return [_shares(title, rows) for title, rows in tables.items() if rows]


def _shares(title: str, rows: Sequence[FeatureShares]) -> list[str]:
    """A table of shares on both sides."""
    return text_table([[title, "pool", "target"], *([row.name, f"{row.pool:.1%}", f"{row.target:.1%}"] for row in rows)])


def _what_to_do(check: PoolCheck) -> list[str]:
    """The advice, under a heading."""
    lines = advice(check)
    return ["what to do:", *(f"  {line}" for line in lines)] if lines else []
