"""Compare label probabilities and speed of a teacher whose KV cache is q8_0 with the same teacher's on f16.

    python benchmarks/teacher/kv_types.py [--n 150] [--turns 5] [--teacher smollm2-135m-instruct] [--mode direct|cot] [--threads N]

Both label the same texts of the example with the same prompts, seeds and weights, in turns, so that other load hits both; the order
changes from turn to turn. In mode `direct` nothing is sampled, so every difference of a probability is the cache's. Prints the mean
and the largest difference of a label's probability over all texts, the texts whose label changes, and the ratio of the times.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from potstill.contract.system.machine import cpu_name, usable_cores
from potstill.contract.task import load_task
from potstill.contract.texts import read_texts
from potstill.labeler.bench.workload import Workload
from potstill.labeler.config import LocalConfig
from potstill.labeler.teacher import TeacherPath
from potstill.labeler.teachers.local import LocalTeacher
from potstill.labeler.teachers.opening import open_local
from potstill.models.memory import KV_TYPES
from potstill.workflows.example_files import DEMO_EXAMPLE, example_folder


def main() -> None:
    """Label in turns and print the differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=150, help="texts")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--teacher", default="smollm2-135m-instruct")
    parser.add_argument("--mode", choices=("direct", "cot"), default="direct")
    parser.add_argument("--threads", type=int, default=usable_cores())
    options = parser.parse_args()
    folder = example_folder(DEMO_EXAMPLE)
    task = load_task(folder / "task.toml")
    texts = read_texts(folder / "texts.jsonl", labels=task.label_names, target=task.input.target).texts[: options.n]
    n_paths = 1 if options.mode == "direct" else 8
    seconds: dict[str, list[float]] = {kind: [] for kind in KV_TYPES}
    answered: dict[str, list[TeacherPath]] = {kind: [] for kind in KV_TYPES}
    with tempfile.TemporaryDirectory() as cache:
        config = LocalConfig(options.threads, cache=Path(cache), n_gpu_layers=0)
        if options.mode == "direct":  # prompts alone need no measuring of paths
            config = replace(config, n_batch=512, n_live_paths=24, flash_attention=True)
        teachers = {kind: open_local(options.teacher, config=replace(config, kv_type=kind)) for kind in KV_TYPES}
        for turn in range(-1, options.turns):  # turn -1 measures settings and decodes the prefix
            part = texts[:4] if turn < 0 else texts[turn :: options.turns]
            for kind in KV_TYPES if turn % 2 == 0 else reversed(KV_TYPES):
                load = Workload(task, part, n_paths, teachers[kind].identity)
                began = time.perf_counter()
                found = answers(teachers[kind], load, options.mode)
                if turn >= 0:
                    seconds[kind].append(time.perf_counter() - began)
                    answered[kind] += found
        settings = {kind: teacher.engine_settings([]) for kind, teacher in teachers.items()}
        for teacher in teachers.values():
            teacher.close()
    print(f"{cpu_name()}, {options.threads} threads; {options.teacher}, {options.mode}, {len(texts)} texts, {options.turns} turns")
    if options.mode == "direct":
        probs = [
            np.exp([path.word_logprobs for path in sorted(found, key=lambda path: path.text_id)]) for found in answered.values()
        ]
        first, second = (kind / kind.sum(axis=1, keepdims=True) for kind in probs)  # [B, C]
        gap = np.abs(first - second)
        print(f"difference of a label's probability: mean {gap.mean():.4f}, largest {gap.max():.4f}")
        print(f"texts whose label changes: {(first.argmax(1) != second.argmax(1)).sum()} of {len(first)}")
    ratios = [q8 / f16 for f16, q8 in zip(*seconds.values(), strict=True)]
    for kind, taken in seconds.items():
        chosen = settings[kind]
        how = f"{chosen.n_live_paths} live paths, {'flash' if chosen.flash_attention else 'plain'} attention"
        print(f"{kind}: {len(texts) / sum(taken):.2f} texts/s ({how})")
    print(f"q8_0 takes {statistics.mean(ratios):.2f} times as long ({min(ratios):.2f} to {max(ratios):.2f})")


def answers(teacher: LocalTeacher, load: Workload, mode: str) -> list[TeacherPath]:
    """Every path of all texts."""
    variant = load.prompt_variants(mode)[0]  # type: ignore[arg-type]
    found = teacher.answer(variant.prefix, variant.number, load.requests(variant), variant.spec, load.seed)
    return [path for path in found if isinstance(path, TeacherPath)]


if __name__ == "__main__":
    main()
