"""The commands that `kills.py` kills, each in a child that was forked from a process that has imported this file."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llama_cpp  # noqa: F401 - labelling imports it late, and forking is faster than importing
from support.teachers.table_teacher import Table
from support.toy_task import QUICK, a_task

from potstill.export.config import ExportConfig
from potstill.export.run import export_bundle
from potstill.labeler.config import LabelConfig
from potstill.labeler.run import path_collector
from potstill.labeler.run.progress import RunProgress
from potstill.labeler.teacher import never
from potstill.labeler.teachers.config import TeacherConfig
from potstill.trainer.config import TrainConfig
from potstill.trainer.run import train
from potstill.workflows import labelling, teacher

EMBEDDED = "smollm2-135m-instruct"
OPERATIONS = {  # names of audit events
    *("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate", "shutil.rmtree", "shutil.copyfile"),
    *("fcntl.flock", "sqlite3.connect"),
    "ctypes.dlsym",  # folders are exchanged by a call that has no event of its own
}


class Moment:
    """Kills this process at its n-th operation on files; counts them."""

    def __init__(self, last: int) -> None:
        self.n, self._last = 0, last
        sys.addaudithook(self._heard)

    def _heard(self, event: str, _: object) -> None:
        if event in OPERATIONS:
            self.tick()

    def tick(self) -> None:
        """One more operation."""
        self.n += 1
        if self.n == self._last:
            os.kill(os.getpid(), signal.SIGKILL)


def run(command: Callable[[Path, Path, bool, Moment], None], inputs: str, folder: str, old: bool, kill_at: int) -> None:
    """Run a command. Args: old, whether it writes the older result; kill_at, number of the operation, 0: never."""
    moment = Moment(kill_at)
    command(Path(inputs), Path(folder), old, moment)
    print(f"operations {moment.n}", flush=True)


def _label(inputs: Path, folder: Path, moment: Moment, by: TeacherConfig, config: LabelConfig) -> None:
    """Label with a commit for every path; prints the number of stored paths whenever it is told."""
    path_collector.COMMIT_SECONDS, path_collector.N_BLOCK = 0.0, 2

    def told(live: RunProgress) -> None:
        print(live.n_paths, flush=True)
        moment.tick()

    labelling.label(inputs / "task.toml", inputs / "texts.jsonl", folder / "out", config, teacher=by, progress=told)


class QuickTeacher(Table):
    """Answers from a path's seed, at a path a millisecond."""

    def answer(self, prefix: str, variant: int, requests: Any, spec: Any, run_seed: int, enough: Any = never) -> Iterator[Any]:
        """As `Teacher` has it."""
        for path in super().answer(prefix, variant, requests, spec, run_seed, enough):
            time.sleep(0.001)
            yield dataclasses.replace(path, word_logprobs=(-(path.seed % 97) / 40, -(path.seed % 89) / 40))


def label(inputs: Path, folder: Path, _: bool, moment: Moment) -> None:
    """A teacher that answers from a table, so that the store is all there is."""
    teacher.open_teacher = lambda *_, **__: QuickTeacher()
    _label(inputs, folder, moment, TeacherConfig(str(inputs / "teacher.gguf")), LabelConfig("cot", n_paths=8))


def label_gguf(inputs: Path, folder: Path, _: bool, moment: Moment) -> None:
    """A tiny GGUF model of random weights samples rationales."""
    config = LabelConfig("cot", n_paths=4, max_rationale_tokens=6, deterministic=True)
    _label(inputs, folder, moment, TeacherConfig(str(inputs / "teacher.gguf"), pack="as-is"), config)


def label_embedded(inputs: Path, folder: Path, _: bool, moment: Moment) -> None:
    """The model that potstill brings along is asked directly."""
    _label(inputs, folder, moment, TeacherConfig(EMBEDDED, pack="as-is"), LabelConfig("direct", n_paths=2, deterministic=True))


def train_tiny(inputs: Path, folder: Path, old: bool, moment: Moment) -> None:
    """A tiny encoder, with a state after every step."""
    settings = {**QUICK, "epochs": 2, "seed": int(old), "backbone": str(inputs / "backbone"), "save_every": 0.0}
    train(a_task(), inputs / "rows.jsonl", folder / "student", TrainConfig(**settings), lambda *_: moment.tick())


def export_tiny(inputs: Path, folder: Path, old: bool, moment: Moment) -> None:
    """A tiny checkpoint, in one form."""
    config = ExportConfig(1, 0, 1, "static_int8" if old else "float", threads=1)
    export_bundle(inputs / "checkpoint", folder / "bundle", config, lambda *_: moment.tick())
