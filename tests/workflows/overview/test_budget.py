"""The budget page of a report, from a folder with stored paths and the real backbone."""

import numpy as np
import pytest
from msgspec.structs import replace
from support.sample_texts import LABELS, a_soft_label, a_task
from support.tiny_checkpoint import write_checkpoint

from potstill.commands.main import run as console
from potstill.contract.checkpoint import Student
from potstill.contract.errors import UserError
from potstill.contract.project import SOFT_LABELS_FILE
from potstill.contract.soft_label import write_soft_labels
from potstill.labeler.aggregation.other_texts.budget import budget_points
from potstill.workflows.overview import budget
from potstill.workflows.overview.budget import plot_of_budget

pytestmark = pytest.mark.slow


def a_student(task_digest):
    return Student(
        format=1, task_name="moves", labels=LABELS, family="encoder", target=False, max_tokens=32, temperature=1.0, thresholds=None,
        loss="reg", seed=0, task_digest=task_digest, soft_labels_digest="s" * 64, teacher_digest="t" * 64, backbone="b",
        backbone_digest="b" * 64, n_train=2, n_validation=2, scores={},
    )  # fmt: skip


def fill(stored, **settings):
    """300 texts of three kinds, the first 40 with gold; the teacher is mostly right."""
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 3, 300)
    words = (["prices rose", "gains everywhere"], ["nothing happened", "a quiet day"], ["prices fell", "losses everywhere"])
    texts = {f"{i:03d}": f"{words[kind][int(rng.integers(2))]} on day {i}" for i, kind in enumerate(kinds)}
    said = np.where(rng.random(300) < 0.8, kinds, rng.integers(0, 3, 300))
    table = {key: [(0, tuple(0.6 if c == label else 0.2 for c in range(3)))] for key, label in zip(texts, said, strict=True)}
    gold = {f"{i:03d}": LABELS[kinds[i]] for i in range(40)}
    return stored(table, gold, texts, labels=LABELS, **settings)


def test_a_run_s_paths_become_a_plot_with_every_figure_in_words(stored, minilm, tmp_path):
    fill(stored, task_digest=a_task().digest)
    done = []
    plot = plot_of_budget(tmp_path, a_student(a_task().digest), 30.0, lambda n, total: done.append((n, total)))
    assert plot.name == "budget" and b"paths drawn (100 ms each)" in plot.svg
    assert plot.summary.startswith("125 texts, 1 path: labels 0.") and "260 texts, 1 path: labels" in plot.summary
    assert done[0] == (0, 3) and done[-1] == (3, 3)


def test_a_store_of_another_task_is_refused(stored, tmp_path):
    fill(stored)
    with pytest.raises(UserError, match="holds no run of the student's task; name the folder that it was labelled in"):
        plot_of_budget(tmp_path, a_student("x" * 64), None)


def test_texts_with_candidates_of_their_own_have_no_curve(stored, tmp_path):
    fill(stored, task_digest=a_task().digest, candidates=2)
    with pytest.raises(UserError, match="leave --budget out"):
        plot_of_budget(tmp_path, a_student(a_task().digest), None)


def test_without_the_run_s_folder_it_says_which_option_is_missing(tmp_path, capsys):
    checkpoint = write_checkpoint(tmp_path / "student")
    (tmp_path / "gold.jsonl").write_text('{"text": "prices rose", "gold": "up"}\n')
    assert console(["report", str(checkpoint), str(tmp_path / "gold.jsonl"), "--budget", "--out", str(tmp_path / "r.html")]) == 1
    assert "--budget scores parts of the stored paths; name the folder that holds them with --run" in capsys.readouterr().err


@pytest.mark.parametrize(("method", "refine"), [(None, "auto"), ("calibrated", "off"), ("calibrated+refined", "auto")])
def test_a_curve_is_of_labels_as_the_folder_has_them(stored, minilm, tmp_path, monkeypatch, method, refine):
    fill(stored, task_digest=a_task().digest)
    if method is not None:
        write_soft_labels(tmp_path / SOFT_LABELS_FILE, [replace(a_soft_label("prices rose", [1, 0, 0]), method=method)])
    seen = []

    def watched(table, settings, config, *rest):
        seen.append(config.refine)
        return budget_points(table, settings, config, *rest)

    monkeypatch.setattr(budget, "budget_points", watched)
    plot_of_budget(tmp_path, a_student(a_task().digest), None)
    assert seen == [refine]
