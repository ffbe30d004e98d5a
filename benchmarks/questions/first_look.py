"""How often the right label is among the candidates of a text: by similarity, by the teacher's first look in groups, by both.

    python benchmarks/questions/first_look.py draw DATA FOLDER [--n 150] [--start 0] [--group 20] [--split test] [--threads 1]
    python benchmarks/questions/first_look.py score FOLDER...

DATA holds `banking77`: gzip-compressed JSON lines with text and label; the task beside this file has its 77 labels. `draw` takes
texts of a split at random, from a start on, and writes what similarity and the embedded teacher say of them; `score` prints, over
the texts of all folders and for each weight of the teacher, the share of texts whose label is among ten candidates, and the first,
with 95 % intervals.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path

import numpy as np
from many_labels import TASK, split
from numpy.typing import NDArray

from potstill.contract.task import load_task
from potstill.labeler.config import LabelConfig
from potstill.labeler.narrowing import not_narrowed
from potstill.labeler.prompts.variants import chosen_by_similarity
from potstill.labeler.run.first_look import first_look
from potstill.labeler.teachers.config import TeacherConfig
from potstill.models.catalog import find_backbone
from potstill.trainer.calibration.thresholds import wilson
from potstill.workflows.teacher import configured_teacher

WEIGHTS = (0.25, 0.5, 1.0, 2.0)
N_CANDIDATES = 10
N_BLOCK = 15  # texts that are written together
Floats = NDArray[np.float64]


def main() -> None:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["draw", "score"])
    parser.add_argument("paths", type=Path, nargs="+")
    parser.add_argument("--n", type=int, default=150)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--group", type=int, default=20)
    parser.add_argument(
        "--groups", choices=["similar", "words"], default="similar", help="of labels that are similar, or share words"
    )
    parser.add_argument("--split", default="test")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if options.what == "draw":
        draw(options.paths[0], options.paths[1], options)
        return
    score(options.paths)


def draw(data: Path, out: Path, options: argparse.Namespace) -> None:
    """Write what is said of each text, after every few: `said.npz`, and how long it took."""
    task, texts = load_task(TASK), split(data, options.split)
    texts = random.Random(18).sample(texts, len(texts))[options.start : options.start + options.n]
    config = LabelConfig(mode="direct", n_paths=1, first_look=options.group)
    similar = chosen_by_similarity(task, texts, config, find_backbone("all-minilm-l6-v2"))
    if similar is None:
        raise SystemExit(f"{TASK}: has too few labels to be narrowed")
    groups = similar.groups
    if options.groups == "words":
        groups = not_narrowed(task, texts, config.candidates, config.first_look).groups
    teacher = configured_teacher(TeacherConfig(threads=options.threads), print)
    out.mkdir(parents=True, exist_ok=True)
    (out / "groups.json").write_text(json.dumps(groups))
    before = np.array([similar.candidates[text.id].log_prior for text in texts])
    gold = np.array([task.label_names.index(text.gold or "") for text in texts])
    said = np.zeros((0, len(task.labels)))
    for start in range(0, len(texts), N_BLOCK):
        began = time.monotonic()
        said = np.concatenate([said, first_look(task, texts[start : start + N_BLOCK], teacher, config, groups)])
        n, seconds = len(said), time.monotonic() - began
        np.savez(out / "said.npz", before=before[:n], said=said, gold=gold[:n])
        print(f"{n} of {len(texts)} texts, {len(groups)} groups: {seconds / (n - start):.3f} s a text", flush=True)
    teacher.close()


def score(folders: list[Path]) -> None:
    """Print the shares over all folders."""
    parts = [dict(np.load(folder / "said.npz")) for folder in folders]
    before, said, gold = (np.concatenate([part[name] for part in parts]) for name in ("before", "said", "gold"))
    groups = json.loads((folders[0] / "groups.json").read_text())
    print(f"{len(gold)} texts; share whose label is among {N_CANDIDATES}, and the first")
    ways = {"similarity": before, "first look": said}
    ways |= {f"both, weight {weight:g}": before + weight * said for weight in WEIGHTS}
    ways |= {f"both, weight {weight:g}, best of each group": kept(before + weight * said, said, groups) for weight in WEIGHTS}
    for name, belief in ways.items():
        print(line(name, belief, gold))


def kept(belief: Floats, said: Floats, groups: list[list[int]]) -> Floats:
    """The same belief with the best label of each group before all others."""
    found = belief.copy()
    for labels in groups:
        best = np.array(labels)[said[:, labels].argmax(axis=1)]
        found[np.arange(len(said)), best] += 1000
    return found


def line(name: str, belief: Floats, gold: NDArray[np.int64]) -> str:
    """One row of the table."""
    ranks = (belief > belief[np.arange(len(gold)), gold][:, None]).sum(axis=1)
    shown = []
    for n in (N_CANDIDATES, 1):
        low, high = wilson(int((ranks < n).sum()), len(gold))
        shown.append(f"{(ranks < n).mean():.3f} [{low:.3f}, {high:.3f}]")
    return f"  {name:<45} {shown[0]}   {shown[1]}"


if __name__ == "__main__":
    main()
