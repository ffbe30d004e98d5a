"""How a teacher's labels scale over Ray's actors: one process, one actor, two actors, each of one thread, mode `direct`.

    python benchmarks/scale/labelling.py [TASK] [TEXTS] [--turns 2] [--ways plain,ray1,ray2]

Every way labels the same texts with one path each in a process of its own, and they take turns. Prints a Markdown table: texts per
second from the first stored path to the last, so without the start of Ray and the teacher; the seconds of the whole run; and
the ratio of the ways' speeds, turn by turn. Run it on free cores: an actor that shares its core says nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LABEL = """
import json, sys, time
import potstill
from potstill.labeler.aggregation.config import DeriveConfig
from potstill.workflows.teacher import TeacherConfig

task, texts, out, engine, actors = sys.argv[1:6]
times = []

def stored(live):
    times.append((live.n_paths, time.perf_counter()))

if __name__ == "__main__":
    asked = potstill.LabelConfig(mode="direct", n_paths=1)
    teacher = TeacherConfig(threads=1, engine=engine, actors=int(actors))
    potstill.label(task, texts, out, asked, teacher=teacher, derive=DeriveConfig(refine="off"), progress=stored)
    (first, began), (last, ended) = times[0], times[-1]
    print(json.dumps([(last - first) / (ended - began), last]))
"""
WAYS = {"plain": ("local", 1), "ray1": ("ray", 1), "ray2": ("ray", 2)}


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", type=Path, nargs="?", default=ROOT / "examples/market_stance/task.toml")
    parser.add_argument("texts", type=Path, nargs="?", default=ROOT / "examples/market_stance/more_texts.jsonl")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--ways", default=",".join(WAYS), help=f"of {', '.join(WAYS)}")
    options = parser.parse_args()
    ways = options.ways.split(",")
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    n_paths = 0
    for turn in range(options.turns):
        for way in ways if turn % 2 == 0 else reversed(ways):
            speed, seconds, n_paths = measured(way, options.task, options.texts)
            found[way].append((speed, seconds))
            print(f"turn {turn + 1}, {way}: {speed:.1f} texts/s, {seconds:.0f} s in all", file=sys.stderr, flush=True)
    print(f"{n_paths} texts, {options.turns} turns, cores {sorted(os.sched_getaffinity(0))}, load {os.getloadavg()[0]:.1f}\n")
    print("| way | texts/s, steady | seconds, all | over the way before |\n| --- | --- | --- | --- |")
    for number, way in enumerate(ways):
        speeds, seconds = zip(*found[way], strict=True)
        before = [speed for speed, _ in found[ways[number - 1]]] if number else []
        ratios = ", ".join(f"{speed / other:.2f}" for speed, other in zip(speeds, before, strict=False))
        print(f"| {way} | {sum(speeds) / len(speeds):.1f} | {sum(seconds) / len(seconds):.0f} | {ratios} |")


def measured(way: str, task: Path, texts: Path) -> tuple[float, float, int]:
    """(texts per second, seconds of the whole process, texts) of one way."""
    engine, actors = WAYS[way]
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "way.py"
        script.write_text(LABEL)
        begun = time.perf_counter()
        asked = [sys.executable, str(script), str(task), str(texts), f"{folder}/out", engine, str(actors)]
        done = subprocess.run(asked, stdout=subprocess.PIPE, check=False)
        if done.returncode:
            sys.exit(f"{way} ended with {done.returncode}")
        speed, n_paths = json.loads(done.stdout.splitlines()[-1])
        return float(speed), time.perf_counter() - begun, int(n_paths)


if __name__ == "__main__":
    main()
