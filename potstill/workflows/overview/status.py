"""Where a project, a label folder, a checkpoint or a bundle stands, what is next, and what it cost: `potstill status`.

It only looks: nothing is opened for writing, no sum is checked and no model is loaded, so it answers at once.
"""

from __future__ import annotations

import fcntl
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from potstill.contract.bundle import MANIFEST_FILE, MODEL_FILE, QUALITY_FILE, Manifest, read_manifest
from potstill.contract.checkpoint import STUDENT_FILE, WORK_LOCK_FILE, WORK_SUFFIX, Student, read_student
from potstill.contract.errors import FormatError
from potstill.contract.files import decode
from potstill.contract.project import (
    BUNDLE_FOLDER,
    CHECKPOINT_FOLDER,
    SOFT_LABELS_FILE,
    STATE_FILE,
    STORE_FILE,
    StageRecord,
    load_project,
)
from potstill.contract.scores.record import Scores
from potstill.labeler.store.quick_figures import RunFigures, StoreFigures, store_figures

PROJECT_FILE = "project.toml"
State = Literal["done", "going on", "unfinished", "not begun"]
MARKS: dict[State, str] = {"done": "done", "going on": "going on", "unfinished": "stopped", "not begun": "not begun"}


class StageStatus(msgspec.Struct, frozen=True):
    """One stage."""

    name: str  # labelling, training or export
    state: State
    lines: list[str]  # what there is, a fact each
    seconds: float | None = None  # that it took when it ran; None: nobody wrote it down


class Status(msgspec.Struct, frozen=True):
    """Where a place stands."""

    place: str
    what: str  # project, label folder, checkpoint or bundle
    stages: list[StageStatus]
    next: str  # the command to give, with names in capitals where it is not known what to name
    notes: list[str] = []

    def as_text(self) -> str:
        """A few lines for each stage, then what is next."""
        lines = [f"{self.place}: {self.what}"]
        for stage in self.stages:
            took = "" if stage.seconds is None else f", took {_duration(stage.seconds)}"
            lines.append(f"{stage.name:<10} {MARKS[stage.state]}{took}")
            lines += [f"{'':<10} {line}" for line in stage.lines]
        return "\n".join([*lines, *self.notes, f"next: {self.next}"])


def status_of(place: str | Path) -> Status:
    """Look at a place.

    Args:
        place: a `project.toml`, a folder with one, a folder of `potstill run` or `potstill label`, a store, a checkpoint (also one
            that is not there yet), or a bundle.
    Raises:
        FormatError: if it is none of these, or damaged.
    """
    place = Path(place)
    if place.suffix == ".toml":
        return _project(place)
    if place.suffix == ".db":
        return _labels(place)
    if (place / PROJECT_FILE).is_file():
        return _project(place / PROJECT_FILE)
    if (place / STATE_FILE).is_file():
        return _out(place, _project_of(place), place)
    if (place / STORE_FILE).is_file():
        return _labels(place / STORE_FILE)
    if (place / MANIFEST_FILE).is_file():
        return Status(str(place), "bundle", [_export(place)], _command("serve", place))
    if (place / STUDENT_FILE).is_file() or _work(place).is_dir():
        return _checkpoint(place)
    if not place.exists():
        raise FormatError(place, "", "no such file or folder; check the path")
    known = f"{PROJECT_FILE}, {STATE_FILE}, {STORE_FILE}, {STUDENT_FILE} and {MANIFEST_FILE}"
    raise FormatError(
        place, "", f"is no project, label folder, checkpoint or bundle: it has none of {known}; name a folder that has"
    )


def _project(path: Path) -> Status:
    """A project's file."""
    return _out(path.parent / load_project(path).out, path, path)


def _out(out: Path, project: Path | None, place: Path) -> Status:
    """All three stages of a project. Args: project, its file, None if it is not known; place, as it was named."""
    records = _records(out / STATE_FILE)
    stages = [
        _labelling(out / STORE_FILE, records.get("label")),
        _training(out / CHECKPOINT_FOLDER, records.get("train")),
        _export(out / BUNDLE_FOLDER, records.get("export")),
    ]
    run = _command("run", project) if project else "potstill run PROJECT"
    done = all(stage.state == "done" for stage in stages)
    following = _command("serve", out / BUNDLE_FOLDER) if done else run
    notes = []
    if done and project and (newer := _newer(project, out / STATE_FILE)):
        following, notes = run, [f"{newer} changed since; what has to be done again is found by the same command"]
    return Status(str(place), "project", stages, following, notes)


def _labels(store: Path) -> Status:
    """A folder of `potstill label`."""
    stage, soft_labels = _labelling(store), store.with_name(SOFT_LABELS_FILE)
    if stage.state == "done":
        following = _command("train", "TASK", soft_labels, "STUDENT")
    elif stage.state == "going on":
        following = "wait for the process that is writing; this command shows how far it is"
    elif stage.state == "unfinished" and soft_labels.is_file():
        following = _command("labels", "derive", store, soft_labels)
    else:
        following = _command("label", "TASK", "TEXTS", store.parent) + " (the same command as before goes on from here)"
    return Status(str(store.parent), "label folder", [stage], following)


def _checkpoint(place: Path) -> Status:
    """A checkpoint, or the work of a training that did not end."""
    stage = _training(place)
    again = "potstill train TASK SOFT_LABELS " + shlex.quote(str(place)) + " (the same command as before goes on from here)"
    following = _command("export", place, "BUNDLE") if stage.state == "done" else again
    if stage.state == "going on":
        following = "wait for the process that trains it"
    return Status(str(place), "checkpoint", [stage], following)


def _labelling(store: Path, record: StageRecord | None = None) -> StageStatus:
    """How far labelling is."""
    if not store.is_file():
        return StageStatus("labelling", "not begun", [])
    found, soft_labels = store_figures(store), store.with_name(SOFT_LABELS_FILE)
    lines = list(_store_lines(found))
    state: State = "done"
    if found.is_written:
        state = "going on"
    elif not soft_labels.is_file():
        state = "unfinished"
        lines.append(f"there is no {SOFT_LABELS_FILE} yet")
    elif record is None and store.stat().st_mtime > soft_labels.stat().st_mtime + 1:
        state = "unfinished"
        lines.append(f"{STORE_FILE} is newer than {SOFT_LABELS_FILE}")
    return StageStatus("labelling", state, lines, record.seconds if record else None)


def _store_lines(found: StoreFigures) -> Iterator[str]:
    """What a store holds."""
    gold = f", {found.n_gold:,} with gold" if found.n_gold else ""
    about = "" if found.exact else "about "
    yield f"{found.n_texts:,} texts{gold}; {about}{found.n_paths:,} paths of {_count(len(found.runs), 'run')}"
    if not found.exact:
        yield "estimated from the size of the file; potstill labels summary counts"
    for run in found.runs[-3:]:
        yield _run_line(run, found.exact)


def _run_line(run: RunFigures, exact: bool) -> str:
    """One run."""
    asked = f"{run.settings.question}, " if run.settings.question else ""
    line = f"run {run.number}: {asked}{run.settings.teacher}, mode {run.settings.mode}"
    if not exact:
        return line
    tokens = f"{run.n_prompt_tokens:,} prompt and {run.n_generated:,} generated tokens"
    return f"{line}; {run.n_texts:,} texts, {run.n_paths:,} paths, {tokens}"


def _training(checkpoint: Path, record: StageRecord | None = None) -> StageStatus:
    """How far training is."""
    work = _work(checkpoint)
    going = work.is_dir() and _is_held(work / WORK_LOCK_FILE)
    lines = []
    if work.is_dir():
        states = sorted(
            int(path.name.rpartition("-")[2]) for path in work.glob("*/checkpoint-*") if path.name.rpartition("-")[2].isdigit()
        )
        lines.append(f"saved at step {states[-1]}" if states else "nothing is saved yet")
    if (checkpoint / STUDENT_FILE).is_file():
        lines = [*_student_lines(read_student(checkpoint)), *(f"a newer one: {line}" for line in lines)]
    elif not work.is_dir():
        return StageStatus("training", "not begun", [])
    state: State = "going on" if going else "unfinished" if work.is_dir() else "done"
    return StageStatus("training", state, lines, record.seconds if record else None)


def _student_lines(student: Student) -> Iterator[str]:
    """What a student is."""
    origin = f"{student.family} from {student.backbone}, loss {student.loss}"
    yield f"{origin}; {student.n_train:,} texts, {student.n_validation:,} held out"
    yield from _score_lines({**student.scores, **{head.name: head.scores.get("validation", {}) for head in student.heads or []}})
    if student.used_gold:
        yield student.used_gold.as_text()


def _export(bundle: Path, record: StageRecord | None = None) -> StageStatus:
    """What the bundle is."""
    if not (bundle / MANIFEST_FILE).is_file():
        return StageStatus("export", "not begun", [])
    manifest = read_manifest(bundle)
    size = (bundle / MODEL_FILE).stat().st_size / 1e6 if (bundle / MODEL_FILE).is_file() else 0.0
    lines = [f"{manifest.variant}, {size:.1f} MB, labels {', '.join(manifest.labels[:8])}{' …' * (len(manifest.labels) > 8)}"]
    lines += _form_lines(bundle / QUALITY_FILE, manifest)
    lines += _score_lines({**manifest.scores, **{head.name: head.scores.get("validation", {}) for head in manifest.heads or []}})
    return StageStatus("export", "done", lines, record.seconds if record else None)


def _form_lines(path: Path, manifest: Manifest) -> Iterator[str]:
    """What quantization changed, as `quality.json` has it."""
    quality = decode.json(path, decode.read_bytes(path), dict[str, Any]) if path.is_file() else {}
    for form in quality.get("forms", []):
        if form.get("variant") == manifest.variant and manifest.variant != "float":
            yield (
                f"keeps the float student's label on {form['agreement']:.1%} of {form['n']:,} texts; "
                f"a text takes {form['ms_p50']:.1f} ms (median, where it was exported)"
            )


def _score_lines(found: dict[str, Scores]) -> Iterator[str]:
    """The first two scores of each split."""
    for split, scores in found.items():
        if shown := [f"{name} {scores[name].as_text()}" for name in list(scores)[:2]]:
            yield f"against the teacher ({split}): {', '.join(shown)}"


def _records(path: Path) -> dict[str, StageRecord]:
    """The finished stages of a project; none where nothing is written down, or it cannot be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, StageRecord])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return {}


def _project_of(out: Path) -> Path | None:
    """The project that writes to a folder, if it stands in the folder above."""
    path = out.resolve().parent / PROJECT_FILE
    if path.is_file() and (path.parent / load_project(path).out).resolve() == out.resolve():
        return Path(out.parent / PROJECT_FILE)
    return None


def _newer(project: Path, state: Path) -> str:
    """The first file of a project that is newer than its last finished stage; empty if none is."""
    found = load_project(project)
    names = [project.name, *(name for name in (found.task, found.texts, found.gold) if name)]
    if not state.is_file():
        return ""
    when = state.stat().st_mtime
    return next((name for name in names if (project.parent / name).exists() and (project.parent / name).stat().st_mtime > when), "")


def _work(checkpoint: Path) -> Path:
    """The folder beside a checkpoint that is being trained."""
    return checkpoint.with_name(checkpoint.name + WORK_SUFFIX)


def _is_held(lock: Path) -> bool:
    """Whether another process has locked the file; a shared lock is taken for a moment to find out."""
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _command(*words: str | Path) -> str:
    """A command line of potstill."""
    return shlex.join(["potstill", *map(str, words)])


def _count(n: int, what: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{n} {what}{'' if n == 1 else 's'}"


def _duration(seconds: float) -> str:
    """`42 s`, `3 min 10 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60:02} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60:02} min"
