"""Judged rules in a file (JSON, format 1), between proposing and accepting; and a task file with accepted rules added."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from potstill.contract.errors import FormatError, UserError
from potstill.contract.files import atomic, decode
from potstill.contract.files.decode import Strict
from potstill.contract.task import Task, check_task
from potstill.labeler.weak_supervision.proposals.gate import LEVEL, MIN_TEXTS, JudgedRule

FORMAT = 1


class ProposalRecord(Strict, kw_only=True):
    """All rules that were proposed for a task, passed or not, as they were judged."""

    format: int = FORMAT
    task_digest: str
    n_texts: int  # that rules were judged on
    rules: list[JudgedRule]

    def as_text(self) -> str:
        """A table of the rules that passed with examples, and the names of the others; at most 100 columns wide."""
        passed = [row for row in self.rules if row.passed]
        lines = [
            f"{len(self.rules)} rules judged on {self.n_texts} texts; {len(passed)} match {MIN_TEXTS} or more of them,",
            f"and the teacher agrees beyond chance (p at most {LEVEL:g} for all rules together)",
        ]
        if passed:
            width = min(32, max(len(row.rule.name) for row in passed)) + 2
            lines += ["", f"{'rule':<{width}}{'by':<9}matched      agrees  chance  p"]
        for row in passed:
            name = row.rule.name if len(row.rule.name) < width else row.rule.name[: width - 3] + "…"
            matched = f"{row.n_matched} ({row.coverage:.1%})"
            lines.append(f"{name:<{width}}{row.origin:<9}{matched:<13}{row.agreement:<8.0%}{row.chance:<8.0%}{row.p_value:.2g}")
            lines += [f"  | {example[:94]}" for example in row.examples]
        others = [row.rule.name for row in self.rules if not row.passed]
        return "\n".join([*lines, *(["", f"did not pass: {', '.join(others)}"] if others else [])])


def write_record(path: Path, record: ProposalRecord) -> None:
    """Write the record, atomically; raises UserError if the file cannot be written."""
    atomic.write_file(path, msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")


def read_record(path: Path) -> ProposalRecord:
    """Read a record; raises FormatError if it is missing, malformed or of another format."""
    record = decode.json(path, decode.read_bytes(path), ProposalRecord)
    if record.format != FORMAT:
        raise FormatError(path, "format", f"is {record.format}; this version reads {FORMAT}")
    return record


def add_to_task(path: Path, record: ProposalRecord, names: Sequence[str]) -> list[JudgedRule]:
    """Add accepted rules at the end of a task file, each with a comment that says how it was judged; the rest stays as it is.

    Args:
        path: the `task.toml`.
        record: rules that were proposed for it.
        names: of those that a person accepts.
    Returns:
        The rules that were added.
    Raises:
        UserError: if a name is none of a rule that passed.
        FormatError: if the task cannot take the rules, because it has one of that name; it is left as it was.
    """
    known = {row.rule.name: row for row in record.rules}
    for name in names:
        if name not in known or not known[name].passed:
            reason = "did not pass" if name in known else "was not proposed"
            choice = ", ".join(repr(row.rule.name) for row in record.rules if row.passed) or "none"
            raise UserError(f"rule {name!r} {reason}; those that passed: {choice}")
    accepted = [known[name] for name in dict.fromkeys(names)]
    text = decode.utf8(path, decode.read_bytes(path)).rstrip("\n") + "\n" + "".join(map(_as_toml, accepted))
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        problem = f"rules cannot be added at its end ({error}); write rules that it has as [[rules]] tables"
        raise FormatError(path, "", problem) from None
    check_task(path, decode.convert(path, content, Task))
    atomic.write_file(path, text.encode("utf-8"))
    return accepted


def _as_toml(row: JudgedRule) -> str:
    """One rule as a table of a task file. JSON strings are strings of TOML, too."""

    def quoted(value: object) -> str:
        return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")

    rule = row.rule
    how = f"keywords = {quoted(rule.keywords)}" if rule.keywords else f"pattern = {quoted(rule.pattern)}"
    said = (
        f"matched {row.n_matched} texts ({row.coverage:.1%}); the teacher agreed on {row.agreement:.0%}, by chance {row.chance:.0%}"
    )
    head = f"\n# Proposed by {row.origin}, accepted: {said}.\n[[rules]]\n"
    return f"{head}name = {quoted(rule.name)}\nlabel = {quoted(rule.label)}\n{how}\n"
