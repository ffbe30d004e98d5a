"""What an audit says: does a bundle still agree with its teacher on the texts of today, and which texts should be labelled next?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from potstill.contract.bundle import Manifest, read_manifest, sums_digest, verify_files
from potstill.contract.errors import UserError, count_of
from potstill.contract.fallback.audit import PRIVATE, AuditRecord, read_audit
from potstill.contract.files import atomic
from potstill.contract.questions.head import check_one_question
from potstill.contract.scores.bounds import lower_bound, upper_bound
from potstill.contract.scores.record import Score
from potstill.contract.texts import Text, text_id, write_texts
from potstill.serve.config import AuditConfig

MOST_NEEDED = 1_000_000  # texts; beyond that no number is named
AuditVerdict = Literal["still holds", "no longer holds", "too few", "nothing stated"]


@dataclass(frozen=True)
class Agreement:
    """How often the bundle gave the teacher's label."""

    what: str  # of which texts
    n: int
    n_same: int
    confidence: float

    @property
    def low(self) -> float:
        """Lower end of the exact interval, from 0 to 1."""
        return lower_bound(self.n_same, self.n, (1 + self.confidence) / 2)

    @property
    def high(self) -> float:
        """Upper end of the exact interval, from 0 to 1."""
        return upper_bound(self.n_same, self.n, (1 + self.confidence) / 2)

    def as_text(self) -> str:
        """`all texts: 0.910 [0.874, 0.938], 300 texts`."""
        if not self.n:
            return f"{self.what}: no text"
        return f"{self.what}: {self.n_same / self.n:.3f} [{self.low:.3f}, {self.high:.3f}], {self.n} texts"


@dataclass(frozen=True)
class AuditReport:
    """What the records of one version of a bundle say."""

    file: Path
    bundle: str  # name and version
    total: Agreement
    answered: Agreement  # of the texts from which the bundle did not abstain
    by_label: list[Agreement]  # by the bundle's label
    stated: Score | None  # agreement that the bundle states
    floor: float | None  # agreement that must hold, from 0 to 1
    verdict: AuditVerdict
    n_needed: int | None  # texts that would decide, if the share stays as it is; None: more than can be named
    n_damaged: int
    n_others: int  # records of other versions
    n_hard: int  # texts on which they differ, or the bundle is not sure

    @property
    def broken(self) -> bool:
        """Whether the agreement is shown not to hold any more."""
        return self.verdict == "no longer holds"

    def as_text(self) -> str:
        """What was found, in a few lines."""
        lines = [f"{self.bundle}: agreement with the teacher", f"  {self.total.as_text()}", f"  {self.answered.as_text()}"]
        lines += [f"  {one.as_text()}" for one in self.by_label]
        if self.n_others:
            lines.append(f"left out {self.n_others} records of other versions")
        if self.n_damaged:
            lines.append(f"left out {self.n_damaged} lines that were not written whole")
        lines.append(
            f"{count_of(self.n_hard, 'text')} {'is' if self.n_hard == 1 else 'are'} hard: the two differ, or the bundle is not sure"
        )
        return "\n".join([*lines, self._conclusion()])

    def _conclusion(self) -> str:
        """The verdict, as a sentence."""
        if self.floor is None:
            return "the agreement is held against nothing; name the bundle with --bundle, or the agreement with --stated"
        stated = f"stated: {self.stated.as_text()} on {self.stated.n} texts; " if self.stated is not None else ""
        wanted = f"{stated}at least {self.floor:.3f} must hold"
        if self.verdict == "too few":
            needed = f"about {self.n_needed} texts" if self.n_needed is not None else "more texts than can be named"
            return f"{wanted}: too few texts to say; {needed} would do if the share stays the same"
        return f"{wanted}: it {self.verdict}"


_AUDIT = AuditConfig()


def audit(
    file: str | Path, bundle: str | Path | None = None, hard: str | Path | None = None, config: AuditConfig = _AUDIT
) -> AuditReport:
    """Read an audit file, and say whether the agreement still holds.

    Args:
        file: that a server with `--audit` wrote.
        bundle: the folder of the bundle that it served; only the records of its version count. None: those of the newest version.
        hard: where to write the hard texts, for `potstill label`, those on which the two differ most first; None: nowhere.
        config: what the agreement is held against.
    Raises:
        FormatError: if the file or the bundle is malformed.
        UserError: if there is no record, or none of the bundle's version, or it answers several questions.
    """
    file = Path(file)
    read = read_audit(file)
    if not read.records:
        raise UserError(f"{file}: holds no record yet; potstill serve --audit writes them")
    newest, manifest = read.records[-1], None
    records = [one for one in read.records if (one.bundle, one.version) == (newest.bundle, newest.version)]
    if bundle is not None:
        verify_files(Path(bundle))
        manifest, digest = read_manifest(Path(bundle)), sums_digest(Path(bundle))
        check_one_question(Path(bundle), manifest, "potstill audit")
        records = [one for one in read.records if one.version and digest.startswith(one.version)]
    if not records:
        found = ", ".join(sorted({f"{one.bundle} {one.version}" for one in read.records}))
        raise UserError(f"{file}: holds no record of this version of {bundle}; it has {found}")
    tough = _hard(records)
    if hard is not None:
        atomic.write_file(Path(hard), write_texts(tough))
        Path(hard).chmod(PRIVATE)
    stated = _stated(manifest, config)
    return _report(file, records, stated, config, (read.n_damaged, len(read.records) - len(records), len(tough)))


def _report(
    file: Path, records: Sequence[AuditRecord], stated: Score | None, config: AuditConfig, counts: tuple[int, int, int]
) -> AuditReport:
    """The report on some records. Args: counts, of damaged lines, records of other versions and hard texts."""

    def agreement(what: str, wanted: Callable[[AuditRecord], bool]) -> Agreement:
        """How often the two agree on the wanted records."""
        same = [one.label == one.teacher_label for one in records if wanted(one)]
        return Agreement(what, len(same), sum(same), config.confidence)

    total = agreement("all texts", lambda one: True)
    floor = None if stated is None else max(0.0, stated.value - config.margin)
    verdict: AuditVerdict = "nothing stated" if floor is None else _verdict(total, floor)
    labels = list(records[-1].probs)
    n_damaged, n_others, n_hard = counts
    return AuditReport(
        file=file,
        bundle=f"{records[-1].bundle} {records[-1].version}",
        total=total,
        answered=agreement("answered by the bundle", lambda one: not one.abstain),
        by_label=[agreement(name, lambda one, name=name: one.label == name) for name in labels],  # type: ignore[misc]
        stated=stated if config.stated is None else None,
        floor=floor,
        verdict=verdict,
        n_needed=None if floor is None or verdict != "too few" else _needed(total, floor),
        n_damaged=n_damaged,
        n_others=n_others,
        n_hard=n_hard,
    )


def _stated(manifest: Manifest | None, config: AuditConfig) -> Score | None:
    """The agreement that must hold: the one asked for, else the bundle's own with the teacher's labels; None if there is none."""
    if config.stated is not None:
        return Score(value=config.stated, low=config.stated, high=config.stated, n=0)
    return None if manifest is None else manifest.scores.get("validation", {}).get("accuracy")


def _verdict(found: Agreement, floor: float) -> AuditVerdict:
    """What an interval says of a floor."""
    if found.low >= floor:
        return "still holds"
    return "no longer holds" if found.high < floor else "too few"


def _needed(found: Agreement, floor: float) -> int | None:
    """The number of texts from which on the share found would decide, to a tenth of it; None if it is too large to name."""
    n = found.n
    while n < MOST_NEEDED:
        n += max(1, n // 10)
        if _verdict(Agreement("", n, round(n * found.n_same / found.n), found.confidence), floor) != "too few":
            return n
    return None


def _hard(records: Sequence[AuditRecord]) -> list[Text]:
    """The texts on which the two differ or the bundle is not sure, each once, the largest difference first."""
    tough = [one for one in records if one.label != one.teacher_label or one.abstain or one.unfamiliar]
    tough.sort(key=lambda one: -one.difference)
    texts = [Text(one.text, text_id(one.text, one.target), one.target) for one in tough if one.text.strip()]
    return list({text.id: text for text in texts}.values())
