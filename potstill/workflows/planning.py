"""Plan labelling for a number of hours: measure this machine for a minute, and say what each teacher can do in the time."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import msgspec

from potstill.contract.errors import UserError
from potstill.contract.interchange.notebook import Shown
from potstill.contract.project import TEACHER
from potstill.contract.questions.questionnaire import AnyTask, Questionnaire, as_any_task
from potstill.contract.system.machine import cpu_name, free_memory_bytes, usable_cores
from potstill.contract.task import Task
from potstill.contract.texts import Text, read_texts
from potstill.labeler.aggregation.config import DeriveConfig
from potstill.labeler.aggregation.other_texts.surroundings import EmbeddingPace, embedding_pace, settled
from potstill.labeler.config import LabelConfig, PlanConfig, RunMode
from potstill.labeler.prompts.variants import Nearest
from potstill.labeler.run.forecast import duration
from potstill.labeler.run.pilot import LabellingPace, measured_pace, measured_questions_pace, pilot_texts
from potstill.labeler.run.plan_rows import PATHS, Known, PlanRow, best_fit, recommended, with_paths
from potstill.labeler.run.text_order import without_copies
from potstill.labeler.teachers.config import TeacherConfig
from potstill.labeler.teachers.opening import is_server, packed_file
from potstill.labeler.tuning.score_file import TunedScores, by_score, prompt_of, read_scores, score_of
from potstill.models.catalog import Entry, best_mode, load_catalog, place
from potstill.models.gguf import read_header
from potstill.models.memory import memory_needed
from potstill.workflows.asking import Tell
from potstill.workflows.teacher import configured_teacher, nearest_worked_examples

N_CELLS = 8192  # tokens of context that a teacher must have room for: a prompt and the texts in work
FILE_FACTOR, BESIDE_FILE_MB = 1.1, 600  # memory of a teacher that is not here, whose header cannot be read
QUESTIONS_MODES: tuple[RunMode, ...] = ("direct", "cot")  # in which several questions share the reading of a text
_LEAST_TEXTS, _LEAST_RATIONALES = 24, 16  # that a pace is measured with; a teacher that is too slow for them is not tried
_LABEL = LabelConfig()
_TEACHER = TeacherConfig()
_DERIVE = DeriveConfig()


@dataclass(frozen=True, repr=False)
class HoursPlan(Shown):
    """What can be labelled in the time, by teacher and mode."""

    task: str
    texts: str
    n_texts: int  # without copies
    hours: float
    rows: list[PlanRow]
    best: PlanRow | None  # recommended
    notes: list[str] = field(default_factory=list)  # one line each, for a person
    machine: str = ""
    refining: EmbeddingPace | None = None  # None: labels of these texts are not refined by what other texts say

    @property
    def refining_s(self) -> float:
        """Seconds after the recommended run in which its texts are embedded, so that labels are refined by what others say."""
        return 0.0 if self.refining is None or self.best is None else self.refining.seconds(self.best.n_texts)

    @property
    def command(self) -> str:
        """The recommended row as a command; empty without one."""
        if self.best is None:
            return ""
        words = ["potstill", "label", self.task, self.texts, "out", "--hours", f"{self.hours:g}"]
        return shlex.join([*words, *_options(self.best)])

    def as_text(self) -> str:
        """The table for a person, at most 100 columns wide."""
        width = max([len(row.teacher) for row in self.rows], default=8) + 2
        lines = [
            f"{self.n_texts} different texts, {self.hours:g} h, {self.machine}",
            "",
            f"  {'teacher':<{width}}{'mode':<9}{'paths':<8}{'texts':<8}{'run':<12}{'macro-F1':<18}pace",
        ]
        for row in self.rows:
            score = row.macro_f1
            shown = f"{score.value:.2f} {score.low:.2f}-{score.high:.2f}" if score else "-"
            lines.append(
                f"{'*' if row is self.best else ' '} {row.teacher:<{width}}{row.config.mode:<9}{_paths(row.config):<8}"
                f"{row.n_texts:<8}{duration(row.seconds):<12}{shown:<18}{row.known}"
            )
        if self.best is not None:
            lines += ["", "* recommended:", f"  {self.command}"]
            if self.refining is not None:
                pace = f"measured at {self.refining.text_s * 1000:.1f} ms a text"
                lines.append(f"  and then {duration(self.refining_s)} to embed {self.best.n_texts} texts ({pace}),")
                lines.append("  since labels are refined by what other texts say")
        return "\n".join([*lines, *(f"note: {line}" for line in self.notes)])

    def cells(self) -> list[list[str]]:
        """A row for each teacher and mode; a star marks the recommended one."""
        header = ["", "teacher", "mode", "paths", "texts", "run", "pace"]
        rows = [
            [
                "*" if row is self.best else "",
                row.teacher,
                row.config.mode,
                _paths(row.config),
                str(row.n_texts),
                duration(row.seconds),
                row.known,
            ]
            for row in self.rows
        ]
        return [header, *rows] if rows else []

    def as_json(self) -> str:
        """The same as one JSON object: times in seconds, sizes in millions of bytes."""
        rows = [
            {
                "teacher": row.teacher,
                "size_mb": row.size_mb,
                "mode": row.config.mode,
                "n_paths": row.config.n_paths,
                "n_direct": row.config.n_direct if row.config.mode == "cascade" else 0,
                "n_texts": row.n_texts,
                "seconds": row.seconds,
                "known": row.known,
                "macro_f1": row.macro_f1,
                "recommended": row is self.best,
            }
            for row in self.rows
        ]
        found = {"n_texts": self.n_texts, "hours": self.hours, "machine": self.machine, "command": self.command}
        found["refining_seconds"] = self.refining_s
        return msgspec.json.encode({**found, "rows": rows, "notes": self.notes}).decode()


def plan(
    task: AnyTask | str | Path,
    texts: str | Path,
    config: PlanConfig,
    label: LabelConfig = _LABEL,
    *,
    teachers: Sequence[TeacherConfig] = (),
    tuned: Sequence[str | Path] = (),
    backbone: str = _DERIVE.backbone,
    tell: Tell = lambda _: None,
) -> HoursPlan:
    """Say what can be labelled in some hours on this machine; `potstill plan`.

    Args:
        task: a task, or its file.
        texts: a file of texts.
        label: prompts and sampling; where its mode is `auto`, all modes are planned.
        teachers: whom to ask; none: every teacher of the catalog that is on this machine or would fit into its memory.
        tuned: folders of `potstill task tune`, for the prompts and scores of their teachers.
        backbone: the encoder for worked examples by similarity.
        tell: takes a line about what is being measured.
    Raises:
        FormatError: if a file is malformed.
        UserError: if a named teacher is not on this machine, or no pace could be measured.
    """
    task_file = str(task) if isinstance(task, str | Path) else "task.toml"
    task = as_any_task(task)
    labels = None if isinstance(task, Questionnaire) else task.label_names
    read = read_texts(texts, labels=labels, target=task.input.target)
    different, notes = without_copies(read.texts), _notes_on(task, label)
    scores = {found.teacher: found for found in map(read_scores, map(Path, tuned))}
    for found in scores.values():
        if found.task_digest != task.digest:
            notes.append(f"the scores of {found.teacher} are of another version of the task")
    candidates = _candidates(teachers, notes)
    pilots = _Pilots(task, different, config, {name: prompt_of(found, label) for name, found in scores.items()}, label, backbone)
    paces = _paces(candidates, pilots, notes, tell)
    rows = [row for candidate in candidates if candidate.name in paces for row in _rows(candidate, paces, pilots, scores)]
    if not any(row.known == "measured" for row in rows):
        raise UserError("no teacher's pace could be measured: " + ("; ".join(notes) or "none is on this machine"))
    best = recommended(rows, len(different), config.n_enough)
    machine = f"{cpu_name()}, {usable_cores()} cores"
    refining = _refining(different, best, backbone, notes, tell)
    return HoursPlan(task_file, str(texts), len(different), config.hours, rows, best, notes, machine, refining)


def _refining(texts: list[Text], best: PlanRow | None, backbone: str, notes: list[str], tell: Tell) -> EmbeddingPace | None:
    """The pace of embedding texts, which refines the labels of the recommended run; None where they will not be refined."""
    if best is None:
        return None
    derive, reason = settled(DeriveConfig(backbone=backbone), best.n_texts)
    if derive.refine != "on":
        notes += [reason] if reason else []
        return None
    tell(f"measuring how fast {backbone} embeds texts")
    return embedding_pace(texts, backbone)


@dataclass(frozen=True)
class _Candidate:
    """A teacher to plan with."""

    teacher: TeacherConfig
    size_mb: int  # of its file, millions of bytes; 0 for a server
    memory_mb: int  # that it needs; 0 for a server
    here: bool

    @property
    def name(self) -> str:
        """As the user names it."""
        return self.teacher.name


@dataclass(frozen=True)
class _Pilots:
    """What every teacher is timed with."""

    task: AnyTask
    texts: list[Text]
    config: PlanConfig
    prompts: dict[str, LabelConfig]  # of tuned teachers, by name
    label: LabelConfig
    backbone: str

    def modes(self) -> list[RunMode]:
        """The modes to plan."""
        if self.label.mode != "auto":
            return [self.label.mode]
        return list(QUESTIONS_MODES) if isinstance(self.task, Questionnaire) else list(PATHS)

    def prompt(self, name: str) -> LabelConfig:
        """The prompt of a teacher: tuned, or as asked for."""
        return self.prompts.get(name, self.label)

    def pace(self, candidate: _Candidate, seconds: float, tell: Tell) -> LabellingPace:
        """Open a teacher and time it; raises UserError if it cannot be opened or draws too little."""
        config, cot = self.prompt(candidate.name), self.modes() != ["direct"]
        nearest = None
        if not isinstance(self.task, Questionnaire):
            nearest = nearest_worked_examples(self.task, pilot_texts(self.texts), config, self.backbone, tell)
        began = time.monotonic()
        opened = configured_teacher(candidate.teacher, tell)
        try:
            start_s = time.monotonic() - began
            if isinstance(self.task, Questionnaire):
                nearest_of, measured = partial(self._nearest, config), measured_questions_pace
                return measured(self.task, self.texts, opened, config, seconds, start_s=start_s, cot=cot, nearest_of=nearest_of)
            return measured_pace(self.task, self.texts, opened, config, seconds, start_s=start_s, cot=cot, nearest=nearest)
        finally:
            opened.close()

    def _nearest(self, config: LabelConfig, task: Task, texts: Sequence[Text]) -> Nearest | None:
        """The worked examples for each text of one question, where they are chosen by similarity."""
        return nearest_worked_examples(task, texts, config, self.backbone, lambda _: None)


def _notes_on(task: AnyTask, label: LabelConfig) -> list[str]:
    """What to know about a plan for this task."""
    if not isinstance(task, Questionnaire):
        return []
    n_asks = len(task.asks())
    notes = [f"times are of all {n_asks} questions and tags together, and paths are of each"]
    if label.mode == "auto":
        notes.append("mode cascade asks each question by itself; to plan it: --mode cascade")
    return notes


def _candidates(teachers: Sequence[TeacherConfig], notes: list[str]) -> list[_Candidate]:
    """The teachers to plan with, the smallest first; those that do not fit into memory are left out with a note.

    Raises:
        UserError: if a named teacher is unknown.
    """
    catalog = load_catalog()
    known = [TeacherConfig(name) for name, entry in catalog.items() if entry.kind == "teacher" and entry.size_mb is not None]
    found, free_mb = [], free_memory_bytes() // 1_000_000
    for teacher in teachers or known:
        candidate = _candidate(teacher, catalog)
        if candidate.memory_mb > free_mb:
            notes.append(f"{teacher.name} needs about {candidate.memory_mb} MB of memory, and {free_mb} MB are free")
        else:
            found.append(candidate)
    return sorted(found, key=lambda candidate: candidate.size_mb)


def _candidate(teacher: TeacherConfig, catalog: dict[str, Entry]) -> _Candidate:
    """Where a teacher is, and how large; raises UserError if it is neither a file, nor a server, nor in the catalog."""
    if is_server(teacher.name):
        return _Candidate(teacher, 0, 0, here=True)
    entry = catalog.get(teacher.name)
    folder = place(entry) if entry else None
    file = folder / entry.file if entry and folder else Path(teacher.name)
    if entry and not file.is_file():
        if entry.size_mb is None:
            raise UserError(
                f"{teacher.name} is not on this machine, and its size is not stated; get it with: potstill models fetch"
            )
        return _Candidate(teacher, entry.size_mb, round(FILE_FACTOR * entry.size_mb) + BESIDE_FILE_MB, here=False)
    packed = packed_file(teacher.name, teacher.pack)
    needed = memory_needed(read_header(packed.path), N_CELLS, teacher.kv_type)
    return _Candidate(teacher, packed.path.stat().st_size // 1_000_000, needed.total_bytes // 1_000_000, here=True)


def _paces(
    candidates: Sequence[_Candidate], pilots: _Pilots, notes: list[str], tell: Tell
) -> dict[str, tuple[LabellingPace, Known]]:
    """The pace of every teacher, by name: measured, or estimated from the smallest measured one by the size of the weights."""
    found: dict[str, tuple[LabellingPace, Known]] = {}
    reference: tuple[LabellingPace, int] | None = None
    n_here = sum(candidate.here for candidate in candidates)
    for candidate in candidates:
        guess = None
        if reference and candidate.size_mb and reference[1]:
            guess = reference[0].scaled(candidate.size_mb / reference[1])
        seconds = pilots.config.measure_s / max(1, n_here)
        too_slow = guess is not None and _LEAST_TEXTS * guess.read_s + _LEAST_RATIONALES * (guess.rationale_s or 0.0) > seconds
        if candidate.here and not too_slow:
            tell(f"measuring {candidate.name} for about {seconds:.0f} s")
            try:
                pace = pilots.pace(candidate, seconds, tell)
            except UserError as error:
                notes.append(str(error))
            else:
                found[candidate.name] = pace, "measured"
                reference = reference or (pace, candidate.size_mb)
                continue
        if guess is not None:
            found[candidate.name] = guess, "estimate"
            why = f"is too slow to be measured in {seconds:.0f} s" if candidate.here else "is not on this machine"
            notes.append(f"{candidate.name} {why}: its pace is that of a smaller one times the size of the weights")
    return found


def _rows(
    candidate: _Candidate, paces: dict[str, tuple[LabellingPace, Known]], pilots: _Pilots, scores: dict[str, TunedScores]
) -> list[PlanRow]:
    """One row for each mode of a teacher."""
    (pace, known), tuned = paces[candidate.name], scores.get(candidate.name)
    seconds, n_texts = pilots.config.hours * 3600, len(pilots.texts)
    usual = tuned.chosen.get("mode") if tuned else best_mode(candidate.name) or "cot"
    rows = []
    for mode in pilots.modes():
        configs = with_paths(pilots.prompt(candidate.name), mode, pilots.config.n_paths)
        if tuned:
            configs = by_score(configs, tuned)
        chosen, n, run_s = best_fit(pace, configs, n_texts, seconds)
        score = score_of(tuned, chosen) if tuned else None
        rows.append(PlanRow(candidate.name, candidate.size_mb, chosen, n, run_s, known, score, mode == usual))
    return rows


def _options(row: PlanRow) -> list[str]:
    """What a row asks for, as options of `potstill label`."""
    config, words = row.config, list[str]()
    if row.teacher != TEACHER:
        words += ["--teacher", row.teacher]
    words += ["--mode", config.mode, "--paths", str(config.n_paths)]
    if config.template != LabelConfig.template:
        words += ["--template", config.template]
    if config.guideline != LabelConfig.guideline:
        words += ["--no-guideline"]
    if config.examples != LabelConfig.examples:
        words += ["--examples", config.examples]
    if config.n_examples_per_label != LabelConfig.n_examples_per_label:
        words += ["--examples-per-label", str(config.n_examples_per_label)]
    return words


def _paths(config: LabelConfig) -> str:
    """`8`, or `4 + 8` in a cascade."""
    return f"{config.n_direct} + {config.n_paths}" if config.mode == "cascade" else str(config.n_paths)
