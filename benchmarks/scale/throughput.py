"""How fast and in how much memory many texts are answered: in a loop, by `potstill predict`, and by one and two Ray actors.

    python benchmarks/scale/throughput.py BUNDLE TEXTS [--n 1000000] [--turns 1] [--ways loop,plain,ray1,ray2]

TEXTS is a file (.jsonl); its texts are repeated with a number behind each until there are N. Every way answers the same file, in a
process of its own, and they take turns, so that other load on the machine hits all. Prints a Markdown table: texts per second with
the time to start and end left in (`all`) and out (`steady`: between the first and the last report of progress), and the largest
memory of the process that was started and of all its children, as proportional set size (PSS: shared pages count once). CPU time a
text hardly depends on what else runs: on free cores, two processes are faster than the loop by twice the ratio of the two.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

LOOK_S = 0.5
LOOP = """
import json, sys, time
from potstill import Classifier
texts = [json.loads(line)["text"] for line in open(sys.argv[2], encoding="utf-8")]
with Classifier.open(sys.argv[1]) as classifier:
    start = time.perf_counter()
    for text in texts:
        classifier.classify([text])
    print(time.perf_counter() - start)
"""
TIMED = """
import json, sys, time
from pathlib import Path
from potstill.serve.config import PredictConfig

bundle, texts, out, way = sys.argv[1:5]
times = []

def report(n_rows):
    times.append((n_rows, time.perf_counter()))

if __name__ == "__main__":
    if way == "plain":
        from potstill.serve.bulk.run import predict_to_file
        predict_to_file(bundle, texts, out + ".jsonl", PredictConfig(workers=int(sys.argv[5])), report=report)
    else:
        from potstill.contract.system.cluster import ClusterConfig
        from potstill.serve.bulk.cluster import predict_on_cluster
        predict_on_cluster(bundle, texts, out, PredictConfig(), ClusterConfig(int(sys.argv[5])), report=report)
    (first, began), (last, ended) = times[0], times[-1]
    print((ended - began) / (last - first) if last > first else float("nan"))
"""
WAYS = {"loop": (LOOP, []), "plain1": (TIMED, ["plain", "1"]), "plain2": (TIMED, ["plain", "2"])}
WAYS |= {"ray1": (TIMED, ["ray", "1"]), "ray2": (TIMED, ["ray", "2"])}


@dataclass(frozen=True)
class Outcome:
    """What one way took."""

    seconds: float
    steady_s: float  # a text
    own_mib: float  # the process that was started
    all_mib: float  # and all that it started
    cpu_s: float  # of the process and of what it waited for; a cluster's daemons are not in it


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--ways", default="loop,plain2,ray1,ray2", help=f"of {', '.join(WAYS)}")
    options = parser.parse_args()
    ways = options.ways.split(",")
    found: dict[str, list[Outcome]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as folder:
        texts = Path(folder) / "texts.jsonl"
        write_texts(options.texts, texts, options.n)
        for turn in range(options.turns):
            for way in ways if turn % 2 == 0 else reversed(ways):
                found[way].append(measured(way, options.bundle, texts, options.n))
                print(f"turn {turn + 1}, {way}: {options.n / found[way][-1].seconds:.0f} texts/s", file=sys.stderr, flush=True)
    print(f"{options.n} texts, {options.turns} turns, cores {sorted(os.sched_getaffinity(0))}, load {os.getloadavg()[0]:.1f}\n")
    print("| way | texts/s, all | texts/s, steady | MiB, own | MiB, all | CPU us a text |\n| --- | --- | --- | --- | --- | --- |")
    for way, outcomes in found.items():
        n = len(outcomes) * options.n
        steady = len(outcomes) / sum(outcome.steady_s for outcome in outcomes)
        own, everything = (max(getattr(outcome, name) for outcome in outcomes) for name in ("own_mib", "all_mib"))
        speed, cpu_us = n / sum(outcome.seconds for outcome in outcomes), 1e6 * sum(outcome.cpu_s for outcome in outcomes) / n
        print(f"| {way} | {speed:.0f} | {steady:.0f} | {own:.0f} | {everything:.0f} | {cpu_us:.0f} |")


def write_texts(source: Path, path: Path, n: int) -> None:
    """Write n texts, no two alike, so that nothing is cached that would not be in life."""
    texts = [json.loads(line)["text"] for line in source.read_text(encoding="utf-8").splitlines() if line.strip()]
    with path.open("w", encoding="utf-8") as file:
        for number, text in enumerate(islice(cycle(texts), n)):
            file.write(json.dumps({"id": str(number), "text": f"{text} {number}"}) + "\n")


def measured(way: str, bundle: Path, texts: Path, n: int) -> Outcome:
    """Run one way, and look at its memory meanwhile."""
    code, more = WAYS[way]
    out = texts.parent / "out"
    script = texts.parent / "way.py"
    script.write_text(code)
    begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    with subprocess.Popen(
        [sys.executable, str(script), str(bundle), str(texts), str(out), *more], stdout=subprocess.PIPE
    ) as process:
        own = everything = 0.0
        while process.poll() is None:
            sizes = {pid: pss_mib(pid) for pid in family(process.pid)}
            own, everything = max(own, sizes.get(process.pid, 0.0)), max(everything, sum(sizes.values()))
            time.sleep(LOOK_S)
        seconds = time.perf_counter() - begun
        printed = float(process.stdout.read().split()[-1]) if process.stdout else float("nan")
    if process.returncode:
        sys.exit(f"{way} ended with {process.returncode}")
    check(way, out, n)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Outcome(printed if way == "loop" else seconds, printed / n if way == "loop" else printed, own, everything, cpu_s)


def check(way: str, out: Path, n: int) -> None:
    """No text may be lost or doubled."""
    lines = out.with_name("out.jsonl")
    if lines.exists():
        with lines.open("rb") as file:
            ids = [json.loads(line)["id"] for line in file]
        lines.unlink()
    elif out.exists():
        from pyarrow import parquet

        ids = [
            key for part in sorted(out.glob("part-*.parquet")) for key in parquet.read_table(part, columns=["id"])["id"].to_pylist()
        ]
        shutil.rmtree(out)
    else:
        return
    if ids != [str(number) for number in range(n)]:
        sys.exit(f"{way} lost or doubled texts, or changed their order")


def family(pid: int) -> Iterator[int]:
    """A process and all that it started."""
    yield pid
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(child) for child in tasks.read_text().split()]
        except OSError:
            continue
        for child in children:
            yield from family(child)


def pss_mib(pid: int) -> float:
    """Proportional set size of a process; 0 once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
    except (OSError, StopIteration):
        return 0.0


if __name__ == "__main__":
    main()
