"""Compare the training loop's speed and loss with the same loop on texts padded to the maximum length.

    python benchmarks/scale/train_speed.py TASK SOFT_LABELS [--n 640] [--turns 4] [--backbone all-minilm-l6-v2] [--threads N]

Both train a new student for one epoch on the same texts with the same seed, a different seed each turn. They take turns, so that
other load on the machine hits both; the order changes from turn to turn. Prints a Markdown table, the ratio of total times and its
range over the turns.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from transformers import set_seed

from potstill.contract.soft_label import SoftLabel
from potstill.contract.task import Task, load_task
from potstill.models.catalog import find_backbone
from potstill.trainer.config import RECIPES, TrainConfig
from potstill.trainer.data.rows import read_rows, split_rows
from potstill.trainer.data.targets import distribution_target
from potstill.trainer.students import encoder
from potstill.trainer.students.encoder import Encoder
from potstill.trainer.students.tokenizer import EncodedText
from potstill.trainer.training.fit import WeightedExamples, fit

OURS = RECIPES[TrainConfig.family]
N_VALIDATION = 64  # texts; both times include one evaluation on them


def main() -> None:
    """Train in turns and print the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", type=Path)
    parser.add_argument("soft_labels", type=Path)
    parser.add_argument("--n", type=int, default=640, help="texts to train on")
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--backbone", default="all-minilm-l6-v2")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    task = load_task(options.task)
    config = TrainConfig(backbone=options.backbone, epochs=1, min_validation=10**9)
    rows = split_rows(str(options.soft_labels), read_rows(options.soft_labels, task), config.validation_share)
    training, validation = rows.training[: options.n], rows.validation[:N_VALIDATION]
    seconds: dict[bool, list[float]] = {False: [], True: []}  # key: texts are padded
    losses: dict[bool, list[float]] = {False: [], True: []}
    for turn in range(options.turns):
        for padded in (False, True) if turn % 2 == 0 else (True, False):
            taken, loss = timed(task, training, validation, replace(config, seed=turn), padded=padded)
            seconds[padded].append(taken)
            losses[padded].append(loss)
            print(f"turn {turn + 1}, {'padded' if padded else 'ours'}: {taken:.1f} s, loss {loss:.4f}", file=sys.stderr, flush=True)
    ratios = [slow / fast for slow, fast in zip(seconds[True], seconds[False], strict=True)]
    print(f"{len(training)} texts, {options.turns} turns, {options.threads} threads, {options.backbone}\n")
    print("| loop | texts/s | validation loss, by turn |\n| --- | --- | --- |")
    for padded, name in ((False, "parts of like length"), (True, f"padded to {config.max_tokens} tokens")):
        speed = len(training) * options.turns / sum(seconds[padded])
        print(f"| {name} | {speed:.1f} | {', '.join(f'{loss:.4f}' for loss in losses[padded])} |")
    total = sum(seconds[True]) / sum(seconds[False])
    print(f"\n{total:.2f} times as fast ({min(ratios):.2f} to {max(ratios):.2f})")


def timed(
    task: Task, training: list[SoftLabel], validation: list[SoftLabel], config: TrainConfig, *, padded: bool
) -> tuple[float, float]:
    """Train one epoch; returns (seconds with the evaluation, validation loss)."""
    set_seed(config.seed)
    RECIPES[config.family] = replace(OURS, part_cost=math.inf) if padded else OURS
    backbone = find_backbone(config.backbone)
    student = encoder.from_backbone(Path(backbone.path), task.label_names, max_tokens=config.max_tokens, pair=task.input.target)
    sets = [examples(student, task, rows, config.max_tokens if padded else 0) for rows in (training, validation)]
    began = time.perf_counter()
    found = fit(student, *sets, config)
    return time.perf_counter() - began, found.validation_losses[-1]


def examples(student: Encoder, task: Task, rows: list[SoftLabel], length: int) -> WeightedExamples:
    """The rows as training examples, padded to at least `length` tokens."""
    features = [padded_to(length, feature, student.pad_id) for feature in student.encode([(row.text, row.target) for row in rows])]
    return WeightedExamples(features, [distribution_target(row, task.label_names) for row in rows], [1.0] * len(rows))


def padded_to(length: int, feature: EncodedText, pad_id: int) -> EncodedText:
    """Append masked padding to a text's ids."""
    n = max(0, length - len(feature["input_ids"]))
    return {name: [*ids, *[pad_id if name == "input_ids" else 0] * n] for name, ids in feature.items()}


if __name__ == "__main__":
    main()
