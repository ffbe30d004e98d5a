"""Measure how much of their speed labelling and training keep beside other programs that keep cores busy.

    python benchmarks/teacher/beside_others.py [--busy 1] [--turns 6] [--seconds 3] [--only labelling] [--before]

Each of the two runs in a process of its own, as `potstill` starts one. In turns it is alone and beside busy processes, which are
stopped and continued; the order changes from turn to turn. Its speed is that between its first and its last step in a turn, so
that no step counts by half. Prints each one's speed alone, the share that is left beside the others, and a 95 % interval over
the turns (Student's t). With `--before` threads wait as the system has it, and their number is fixed.
"""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from scipy.stats import t as student_t

from potstill.contract.system.child_process import environment
from potstill.contract.system.machine import cpu_name, usable_cores
from potstill.contract.system.threads import Waiting

BUSY = "while True: pass"
FEWEST_STEPS = 4  # of a turn: a slow one is longer
SETTLE_S = 3.5  # after the busy processes stopped or went on: it takes a while to notice
KINDS = {"labelling": "tokens/s", "training": "steps/s"}
TEACHER, BACKBONE, N_TEXTS = "smollm2-135m-instruct", "all-minilm-l6-v2", 64


def main() -> None:
    """Measure both, or be one of the processes that are measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", type=int, default=1, help="busy processes")
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=3.0, help="of a turn alone, and of one beside the others")
    parser.add_argument("--only", choices=KINDS)
    parser.add_argument("--before", action="store_true", help="with the system's own way of waiting, and one number of threads")
    parser.add_argument("--work", choices=KINDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        if options.before:
            Waiting.worked = lambda *_: None  # type: ignore[method-assign]
        {"labelling": label_forever, "training": train_forever}[options.work](options.before)
    print(f"{cpu_name()}, {usable_cores()} cores, {options.busy} busy processes, {options.turns} turns of {options.seconds:g} s\n")
    print("| what | alone | share left beside the others | 95 % interval |\n| --- | --- | --- | --- |")
    for kind in [options.only] if options.only else KINDS:
        found = measured(kind, options)
        low, high = found.interval
        print(f"| {kind} | {found.alone:.2f} {KINDS[kind]} | {found.share:.2f} | {low:.2f} to {high:.2f} |", flush=True)


# Measuring


@dataclass
class Work:
    """What a measured process says of its steps: when each ended, and how much was done by then."""

    ends: list[tuple[float, float]] = field(default_factory=list)
    settled: bool = False  # whether it has run alone or beside the others for a while

    def read(self, lines: Iterable[str]) -> None:
        """Take note of every line, until there are no more."""
        for line in lines:
            seconds, done = line.split()
            self.ends.append((float(seconds), float(done)))

    def wait_for_steps(self, began: float) -> None:
        """Wait until some steps have ended since then."""
        while len([end for end in self.ends if end[0] >= began]) < FEWEST_STEPS:
            time.sleep(0.05)

    def speed(self, began: float) -> float:
        """Work in a second between the first and the last step that ended since then."""
        inside = [end for end in self.ends if began <= end[0]]
        (first_s, first), (last_s, last) = inside[0], inside[-1]
        return (last - first) / (last_s - first_s)


@dataclass(frozen=True)
class Shares:
    """Speeds of the turns, alone and beside the others."""

    speeds: list[tuple[float, float]]

    @property
    def alone(self) -> float:
        """Mean speed alone."""
        return statistics.mean(alone for alone, _ in self.speeds)

    @property
    def ratios(self) -> list[float]:
        """What was left of the speed in each turn."""
        return [beside / alone for alone, beside in self.speeds]

    @property
    def share(self) -> float:
        """Mean of what was left."""
        return statistics.mean(self.ratios)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the mean."""
        n = len(self.ratios)
        half = float(student_t.ppf(0.975, n - 1)) * statistics.stdev(self.ratios) / n**0.5 if n > 1 else float("nan")
        return self.share - half, self.share + half


def measured(kind: str, options: argparse.Namespace) -> Shares:
    """Start the work and the busy processes, and take turns."""
    arguments = [sys.executable, __file__, "--work", kind, *(["--before"] if options.before else [])]
    worker = subprocess.Popen(arguments, env=environment(), stdout=subprocess.PIPE, text=True)
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(options.busy)]
    try:
        tell(busy, signal.SIGSTOP)
        work = Work()
        threading.Thread(target=work.read, args=[worker.stdout], daemon=True).start()
        work.wait_for_steps(0.0)  # it has begun: weights are loaded, settings measured
        speeds = [turn(work, busy, options.seconds, first_alone=n % 2 == 0) for n in range(options.turns)]
    finally:
        for process in [worker, *busy]:
            process.kill()
            process.wait()
    return Shares(speeds)


def turn(work: Work, busy: list[subprocess.Popen[bytes]], seconds: float, *, first_alone: bool) -> tuple[float, float]:
    """Speeds alone and beside the busy processes; a turn begins as the one before it ended."""
    speeds = {}
    for alone in (True, False) if first_alone else (False, True):
        tell(busy, signal.SIGSTOP if alone else signal.SIGCONT)
        time.sleep(SETTLE_S if len(speeds) or not work.settled else 0)
        work.settled = True
        began = time.monotonic()
        time.sleep(seconds)
        work.wait_for_steps(began)
        speeds[alone] = work.speed(began)
        print(f"{'alone' if alone else 'beside'}: {speeds[alone]:.2f}", file=sys.stderr, flush=True)
    return speeds[True], speeds[False]


def tell(processes: list[subprocess.Popen[bytes]], number: signal.Signals) -> None:
    """Send all of them a signal."""
    for process in processes:
        process.send_signal(number)


# The processes that are measured


def report(done: float) -> None:
    """Say how much is done by now."""
    os.write(1, f"{time.monotonic()} {done}\n".encode())


def label_forever(before: bool) -> None:
    """Label the texts of the example again and again, with 8 sampled rationales each."""
    from potstill.contract.task import load_task
    from potstill.contract.texts import read_texts
    from potstill.labeler.bench.workload import Workload
    from potstill.labeler.config import LocalConfig
    from potstill.labeler.engine.llama import LlamaEngine, LoadConfig, Token
    from potstill.labeler.teachers.opening import open_local
    from potstill.workflows.example_files import DEMO_EXAMPLE, example_folder

    class Counted(LlamaEngine):
        """An engine that says how many tokens it has decoded."""

        n_tokens, begun = 0, False

        def decode(self, tokens: list[Token]) -> list[int]:  # type: ignore[override]
            rows = super().decode(tokens)
            self.n_tokens += len(tokens)
            if self.begun:
                report(self.n_tokens)
            return rows

    folder = example_folder(DEMO_EXAMPLE)
    task = load_task(folder / "task.toml")
    texts = read_texts(folder / "texts.jsonl", labels=task.label_names, target=task.input.target).texts[:N_TEXTS]
    engines: list[Counted] = []

    def open_engine(path: Path, load: LoadConfig) -> Counted:
        engines.append(Counted(path, load))
        return engines[0]

    with tempfile.TemporaryDirectory() as cache:
        stated = LocalConfig(n_batch=512, n_live_paths=24, flash_attention=False, cache=Path(cache))
        n_threads = usable_cores() if before else None  # a stated number stays
        teacher = open_local(TEACHER, config=replace(stated, n_threads=n_threads), open_engine=open_engine)
        load = Workload(task, texts, 8, teacher.identity)
        (variant,) = load.prompt_variants("cot")
        for seed in itertools.count():
            paths = teacher.answer(variant.prefix, 0, load.requests(variant), variant.spec, seed)
            for _ in paths:
                engines[0].begun = True


def train_forever(_before: bool) -> None:
    """Train a student on the texts of the example, with labels made up for it."""
    from potstill.contract.task import load_task
    from potstill.contract.texts import read_texts
    from potstill.models.catalog import find_backbone
    from potstill.trainer.config import TrainConfig
    from potstill.trainer.students import encoder
    from potstill.trainer.training.fit import WeightedExamples, fit
    from potstill.workflows.example_files import DEMO_EXAMPLE, example_folder

    folder = example_folder(DEMO_EXAMPLE)
    task = load_task(folder / "task.toml")
    texts = read_texts(folder / "texts.jsonl", labels=task.label_names, target=task.input.target).texts
    backbone = find_backbone(BACKBONE)
    student = encoder.from_backbone(Path(backbone.path), task.label_names, max_tokens=128, pair=task.input.target)
    features = sorted(student.encode([(text.text, text.target) for text in texts]), key=lambda feature: len(feature["input_ids"]))
    middle = [features[len(features) // 2]] * 640  # texts of one length, so that every step is the same work
    target = [1 / len(task.label_names)] * len(task.label_names)
    examples = WeightedExamples(middle, [target] * len(middle), [1.0] * len(middle))
    few = WeightedExamples(middle[:1], [target], [1.0])
    fit(student, examples, few, TrainConfig(epochs=10_000), lambda _stage, done, _planned, _loss: report(done))


if __name__ == "__main__":
    main()
