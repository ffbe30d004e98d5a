"""Kill labelling, training and export at random moments, and check that nothing is lost, doubled or left half done.

    PYTHONPATH=.:tests python benchmarks/promises/kills.py kills.json --kills 1000 --seconds 200

A *round* kills one command once to six times (SIGKILL), then runs it to its end. Half of the kills fall at a moment drawn over
the time that the command takes, half at one of its operations on files (opening, renaming, removing, locking ...), which Python's
audit hook counts; a fifth of both fall into its last tenth, where results are moved into place. In every second round of training
and export an older result is in its place. Checked after each kill: the label store is sound, has every path that was reported as
stored, each once, and none that an unbroken run does not draw; a student or a bundle at its place is the old or the new one, byte
for byte, or none if there was none. Checked after the last run: store, soft labels, student or bundle equal those of an unbroken
run, and neither the folder nor the temporary folder nor the cache holds a file that an unbroken run does not leave.

Commands are children forked from one process that has imported torch, and models are tiny, so a kill takes about a second. The
tally is written after each round, and the same command goes on from there. Ends with 1 if anything was found.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import killed_commands
from killed_commands import EMBEDDED
from support.processes import Child, Parent, parent_of
from support.small_task import SMALL_TASK
from support.teachers.tiny_gguf import write_tiny_models
from support.tiny_backbone import write_backbone
from support.tiny_checkpoint import write_checkpoint
from support.toy_task import a_task, toy_rows, write_rows

from potstill.contract.files import atomic
from potstill.contract.texts import Text, write_texts
from potstill.labeler.store.database import LabelStore
from potstill.labeler.store.integrity import check_store
from potstill.models.catalog import find_teacher
from potstill.serve.offline.verify import verify
from potstill.workflows import labelling

LITTER = re.compile(r"\..*[0-9a-f]{6,}|.*\.new|.*\.tmp|potstill-.*|tmp.*")
Files = dict[str, bytes]


# What is checked after a kill, and after the last run. Each gives a line for every fault.


def stored(folder: Path) -> list[tuple[object, ...]]:
    """All paths of the store, by run, text and number."""
    with closing(sqlite3.connect(folder / "out" / "labels.db")) as connection:
        return connection.execute("select * from paths order by 1, 2, 3").fetchall()


@dataclass
class Round:
    """One folder in which a command is killed."""

    kind: Kind
    folder: Path
    reference: Files  # the files of an unbroken run
    older: Files  # of what was there before; empty: nothing was
    rows: list[tuple[object, ...]]  # the paths of an unbroken run
    seen: list[tuple[object, ...]] = field(default_factory=list)  # those after the last kill

    def left(self, n_kills: int) -> float:
        """About the share of the work that the next run still has to do. Args: n_kills, so far."""
        if self.rows:
            return 1 - len(self.seen) / len(self.rows)
        return 0.5 if n_kills and self.kind.made == "student" else 1.0  # an export begins anew

    def faults_of_store(self, n_told: int) -> list[str]:
        """After a kill of labelling."""
        if not (self.folder / "out" / "labels.db").exists():
            return [f"{n_told} paths were told, and there is no store"] * bool(n_told or self.seen)
        try:
            rows = stored(self.folder)
        except sqlite3.OperationalError as error:  # killed before the tables were there
            return [f"the store cannot be read: {error}"] * bool(n_told or self.seen)
        found = [f"lost {n_told - len(rows)} stored paths"] * (len(rows) < n_told)
        found += ["a stored path is lost or changed"] * (not set(self.seen) <= set(rows))
        found += ["a path is there twice"] * (len({row[:3] for row in rows}) < len(rows))
        found += ["a path that no unbroken run draws"] * (not set(rows) <= set(self.rows))
        with LabelStore.create(self.folder / "out" / "labels.db") as store:
            found += check_store(store).faults
        self.seen = rows
        soft_labels = self.folder / "out" / labelling.SOFT_LABELS_FILE
        whole = not soft_labels.exists() or soft_labels.read_bytes() == self.reference[f"out/{labelling.SOFT_LABELS_FILE}"]
        return found + ["half of the soft labels"] * (not whole)

    def faults_of_folder(self, _: int) -> list[str]:
        """After a kill of training or export."""
        place = self.folder / self.kind.made
        there = {name: data for name, data in contents(self.folder).items() if name.startswith(f"{self.kind.made}/")}
        if not place.exists() and not self.older:
            return []
        if there not in (self.older, self.reference):
            differing = sorted(name for name in {*there, *self.reference} if there.get(name) != self.reference.get(name))
            return [f"{self.kind.made} is neither the old nor the new one: {', '.join(differing)}"]
        return verify(place).problems if self.kind.made == "bundle" else []

    def faults_at_end(self) -> list[str]:
        """After the last run."""
        there = contents(self.folder)
        found = [f"{name} is left behind" for name in sorted(there.keys() - self.reference.keys())]
        found += [f"{name} is missing" for name in sorted(self.reference.keys() - there.keys())]
        if self.kind.made == "out":
            found += ["paths differ from those of an unbroken run"] * (stored(self.folder) != self.rows)
            there = {name: data for name, data in there.items() if "labels.db" not in name}
        return found + [f"{name} differs" for name, data in sorted(there.items()) if self.reference.get(name, data) != data]


def contents(folder: Path) -> Files:
    """Every file below a folder, hidden ones too, without SQLite's own."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(("-wal", "-shm")))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@dataclass(frozen=True)
class Kind:
    """A command that is killed."""

    command: str  # name of its function in killed_commands
    made: str  # name of what it makes
    check: Callable[[Round, int], list[str]]
    share: float  # of all kills


KINDS = {
    "label": Kind("label", "out", Round.faults_of_store, 0.4),
    "label gguf": Kind("label_gguf", "out", Round.faults_of_store, 0.05),
    "label embedded": Kind("label_embedded", "out", Round.faults_of_store, 0.05),
    "train": Kind("train_tiny", "student", Round.faults_of_folder, 0.25),
    "export": Kind("export_tiny", "bundle", Round.faults_of_folder, 0.25),
}


# The rounds


@dataclass
class Tally:
    """What was done so far, by kind; written as JSON."""

    kills: Counter[str] = field(default_factory=Counter)
    by_operation: Counter[str] = field(default_factory=Counter)  # of these kills
    rounds: Counter[str] = field(default_factory=Counter)
    too_late: Counter[str] = field(default_factory=Counter)  # kills that were meant, and found the command done
    faults: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, file: Path) -> Tally:
        """The tally of an earlier call; an empty one if there is none."""
        found = json.loads(file.read_text()) if file.exists() else {}
        return cls(**{name: value if name == "faults" else Counter(value) for name, value in found.items()})

    def write(self, file: Path) -> None:
        """Whole or not at all."""
        atomic.write_file(file, json.dumps(vars(self), indent=1).encode() + b"\n")

    def as_text(self) -> str:
        """Markdown."""
        lines = [
            "| command | kills | of these at an operation on files | rounds | came too late |",
            "| --- | ---: | ---: | ---: | ---: |",
        ]
        lines += [f"| {n} | {self.kills[n]} | {self.by_operation[n]} | {self.rounds[n]} | {self.too_late[n]} |" for n in self.kills]
        return "\n".join([*lines, f"\n{self.kills.total()} kills, {len(self.faults)} faults", *self.faults])


class Killer:
    """Kills commands in a scratch folder."""

    def __init__(self, parent: Parent, scratch: Path) -> None:
        self._parent, self._scratch = parent, scratch
        self.inputs = scratch / "inputs"
        self._unbroken: dict[tuple[str, bool], tuple[Files, list[tuple[object, ...]], float, int]] = {}

    def write_inputs(self) -> None:
        """Task, texts, teacher, backbone, soft labels and checkpoint."""
        self.inputs.mkdir()
        (self.inputs / "task.toml").write_text(SMALL_TASK)
        texts = (Text(f"text number {i}: it went {'up' if i % 2 else 'down'}", str(i)) for i in range(10))
        (self.inputs / "texts.jsonl").write_bytes(write_texts(texts))
        write_rows(self.inputs / "rows.jsonl", toy_rows(60, a_task()))
        write_backbone(self.inputs / "backbone")
        (self.inputs / "checkpoint").mkdir()
        write_checkpoint(self.inputs / "checkpoint")
        write_tiny_models(find_teacher(EMBEDDED).path, self.inputs)
        (self.inputs / "dense.gguf").rename(self.inputs / "teacher.gguf")

    def begin(self, kind: str, folder: Path, old: bool = False, kill_at: int = 0) -> Child:
        """A command in a child."""
        arguments = (str(self.inputs), str(folder), old, kill_at)
        return self._parent.start(f"import killed_commands as here; here.run(here.{KINDS[kind].command}, *{arguments!r})")

    def finish(self, kind: str, folder: Path, old: bool = False) -> int:
        """Run a command to its end; returns the number of its operations."""
        with self.begin(kind, folder, old) as child:
            said, errors = child.communicate()
        if child.returncode:
            raise ChildProcessError(f"{kind} ended with {child.returncode}: {errors[-2000:]}")
        return int(said.split()[-1])

    def unbroken(self, kind: str, old: bool = False) -> tuple[Files, list[tuple[object, ...]], float, int]:
        """(files, paths, seconds, operations) of a run that nobody kills."""
        if (kind, old) not in self._unbroken:
            folder = self._scratch / f"unbroken-{len(self._unbroken)}"
            folder.mkdir()
            began = time.monotonic()
            n = self.finish(kind, folder, old)
            seconds = time.monotonic() - began
            self._unbroken[kind, old] = contents(folder), stored(folder) if KINDS[kind].made == "out" else [], seconds, n
        return self._unbroken[kind, old]

    def round(self, kind: str, rng: random.Random, most: int, tally: Tally) -> None:
        """Kill a command once to six times, and at most so many times, then let it end; adds to the tally."""
        reference, rows, *_ = self.unbroken(kind)
        folder = Path(tempfile.mkdtemp(prefix="round-", dir=self._scratch))
        replaces = KINDS[kind].made != "out" and rng.random() < 0.5
        older = self.unbroken(kind, old=True)[0] if replaces else {}
        for name, data in older.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        if kind == "label gguf":  # the embedded model's cache takes seconds to fill, and export times its forms once
            shutil.rmtree(Path(os.environ["XDG_CACHE_HOME"]) / "potstill" / "models", ignore_errors=True)
        one, kills, faults = Round(KINDS[kind], folder, reference, older, rows), Counter[str](), []
        try:
            for _ in range(min(most, rng.randint(1, 6))):
                how, n_told = self.kill(kind, folder, rng, one.left(kills.total()))
                kills[how] += 1
                faults += [f"after a kill at {how}: {fault}" for fault in KINDS[kind].check(one, n_told)]
            self.finish(kind, folder)
            faults += [f"at the end: {fault}" for fault in one.faults_at_end()]
        except (ChildProcessError, sqlite3.Error) as error:
            faults.append(f"after {kills.total()} kills: {error}")
        faults += [f"at the end: {name} is left behind" for name in self.litter()]
        shutil.rmtree(folder)
        n_late = kills.pop("nothing", 0)
        tally.kills[kind] += kills.total()
        tally.by_operation[kind] += kills["an operation"]
        tally.too_late[kind] += n_late
        tally.rounds[kind] += 1
        tally.faults += [f"{kind}, round {tally.rounds[kind]}: {fault}" for fault in faults]

    def kill(self, kind: str, folder: Path, rng: random.Random, left: float) -> tuple[str, int]:
        """(what was killed at: a time, an operation or nothing as the command was done; number of paths reported as stored).

        Args:
            left: the share of the work that is still to be done.
        """
        *_, seconds, n_operations = self.unbroken(kind)
        at = left * (rng.uniform(0.9, 1.0) if rng.random() < 0.2 else rng.random())
        by_operation = rng.random() < 0.5
        with self.begin(kind, folder, kill_at=max(1, round(at * n_operations)) if by_operation else 0) as child:
            if not by_operation:
                time.sleep(at * seconds)
                child.kill()
            said, errors = child.communicate()
        if child.returncode not in (0, -signal.SIGKILL):
            raise ChildProcessError(f"{kind} ended with {child.returncode}: {errors[-2000:]}")
        whole_lines = said[: said.rfind("\n") + 1].split("\n")
        how = ("an operation" if by_operation else "a time") if child.returncode else "nothing"
        return how, max([int(line) for line in whole_lines if line.isdecimal()], default=0)

    def litter(self) -> list[str]:
        """Names of what was left in the temporary folder and in the cache; the first is emptied."""
        temporary, cache = Path(os.environ["TMPDIR"]), Path(os.environ["XDG_CACHE_HOME"])
        found = [f"TMPDIR/{path.name}" for path in temporary.iterdir() if not is_probe(path)]
        for path in temporary.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        left = [path for path in cache.rglob("*") if LITTER.fullmatch(path.name)]
        for path in left:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return found + [f"cache/{path.name}" for path in left]


def is_probe(path: Path) -> bool:
    """Whether it is the file with which Python's tempfile tries once whether it may write: a moment of every program."""
    return path.is_file() and re.fullmatch("[a-z0-9_]{8}", path.name) is not None and path.read_bytes() in (b"", b"blat")


def kill_all(tally: Tally, wanted: dict[str, int], seed: int, seconds: float, after: Callable[[], None]) -> Tally:
    """Kill until every kind has as many kills as wanted, or the time is up. Args: after, called after each round."""
    with tempfile.TemporaryDirectory() as place:
        scratch, end_s = Path(place), time.monotonic() + seconds
        places = {"TMPDIR": scratch / "tmp", "XDG_CACHE_HOME": scratch / "cache", "HOME": scratch / "home"}
        before = {name: os.environ.get(name) for name in places}
        os.environ |= {name: str(path) for name, path in places.items()}
        try:
            for path in places.values():
                path.mkdir()
            with parent_of(killed_commands.__name__) as parent:
                killer = Killer(parent, scratch)
                killer.write_inputs()
                while (left := {kind: n - tally.kills[kind] for kind, n in wanted.items() if n > tally.kills[kind]}) and (
                    time.monotonic() < end_s
                ):
                    kind = max(left, key=lambda name: left[name] / wanted[name])
                    rng = random.Random(f"{seed} {kind} {tally.rounds[kind]}")
                    killer.round(kind, rng, left[kind], tally)
                    after()
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tally", type=Path, help="JSON file to go on with, or to write")
    parser.add_argument("--kills", type=int, default=1000, help="all together, those of earlier calls too")
    parser.add_argument("--seconds", type=float, default=1e9, help="of this call")
    parser.add_argument("--kinds", default=",".join(KINDS), help="by commas")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    kinds = [kind for kind in KINDS if kind in options.kinds.split(",")]
    whole = sum(KINDS[kind].share for kind in kinds)
    wanted = {kind: round(options.kills * KINDS[kind].share / whole) for kind in kinds}
    tally = Tally.read(options.tally)
    kill_all(tally, wanted, options.seed, options.seconds, lambda: tally.write(options.tally))
    print(tally.as_text())
    return int(bool(tally.faults))


if __name__ == "__main__":
    sys.exit(main())
