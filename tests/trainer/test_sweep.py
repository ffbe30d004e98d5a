import json

import pytest
from support.toy_task import a_task, gold_texts, quick, soft_label, toy_rows, write_rows

from potstill.contract.errors import FormatError, UserError
from potstill.trainer import sweep as module
from potstill.trainer.sweep import Measurement, Sweep, distinct_selections, mean_text, sweep
from potstill.trainer.training.losses import OBJECTIVES

pytestmark = pytest.mark.slow


def measured(loss, least, seed=0, f1=0.5, gold_f1=0.5):
    scores = {"accuracy": 0.5, "macro_f1": f1, "precision": 0.5, "area": 0.5}
    gold = scores | {"macro_f1": gold_f1}
    return Measurement(made_of="m", loss=loss, min_agreement=least, seed=seed, share=1.0, validation=scores, gold=gold)


def test_the_best_setting_is_that_of_the_validation_texts_whatever_gold_says(tmp_path):
    table = Sweep([measured("cls", 0.0, f1=0.6, gold_f1=0.1), measured("reg", 0.5, f1=0.5, gold_f1=0.9)], tmp_path)
    assert table.best() == ("cls", 0.0)
    assert table.as_text().splitlines()[-1] == "best by macro-F1 on the validation texts: --loss cls --min-agreement 0"


def test_the_mean_over_seeds_carries_students_interval():
    assert mean_text([0.5]) == "0.500"
    assert mean_text([0.4, 0.5, 0.6]) == "0.500 ± 0.248"  # 4.303 * 0.1 / sqrt(3)


def test_only_thresholds_that_keep_other_texts_are_tried():
    rows = [
        soft_label(f"rise {i}", label, a_task(), votes=votes)
        for i, (label, votes) in enumerate([("up", 8), ("flat", 8), ("down", 5)])
    ]
    assert [(least, len(kept)) for least, kept in distinct_selections(rows)] == [(0.0, 3), (0.75, 2)]
    with pytest.raises(UserError, match="fewer than two majority labels"):
        distinct_selections(rows[:1])


@pytest.fixture
def counted(monkeypatch):
    """The cells that are trained; each at once and with made-up scores."""
    asked = []

    def measure(job, rows, gold):
        asked.append((job.config.loss, job.config.min_agreement, job.config.seed))
        return dict.fromkeys(module.COLUMNS, 0.5), {}

    monkeypatch.setattr(module, "_measure", measure)
    return asked


def test_a_sweep_goes_on_where_it_was_cut_off_and_another_begins_anew(backbone, tmp_path, counted):
    path = write_rows(tmp_path / "soft_labels.jsonl", toy_rows(60, a_task()))
    config = quick(backbone, epochs=1, seeds=2)
    sweep(a_task(), path, tmp_path / "student", config, [])
    file = tmp_path / "student.sweep.jsonl"
    n_cells = len(counted)
    assert n_cells == len(set(counted)) == len(OBJECTIVES) * 3 * 2
    file.write_bytes(file.read_bytes()[:-20])  # killed while it wrote the last line
    counted.clear()
    sweep(a_task(), path, tmp_path / "student", config, [])
    assert len(counted) == 1
    assert len([json.loads(line) for line in file.read_text().splitlines()]) == n_cells
    sweep(a_task(), path, tmp_path / "student", quick(backbone, epochs=2, seeds=1), [])
    assert len(counted) == 1 + n_cells // 2


def test_a_file_that_holds_something_else_is_refused(backbone, tmp_path, counted):
    path = write_rows(tmp_path / "soft_labels.jsonl", toy_rows(60, a_task()))
    (tmp_path / "student.sweep.jsonl").write_text('{"mine": 1}\n')
    with pytest.raises(FormatError, match=r"student.sweep.jsonl: is not a file of measurements .*; remove it to start over$"):
        sweep(a_task(), path, tmp_path / "student", quick(backbone), [])


def test_a_table_of_real_students_has_a_row_a_cell_and_gold_beside_it(backbone, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "OBJECTIVES", {"cls": OBJECTIVES["cls"]})
    monkeypatch.setattr(module, "THRESHOLDS", (0.0,))
    path = write_rows(tmp_path / "soft_labels.jsonl", toy_rows(60, a_task()))
    lines = sweep(a_task(), path, tmp_path / "student", quick(backbone, epochs=1), gold_texts(12)).as_text().splitlines()
    assert lines[2].startswith("| cls | 0 | 100% | 0.")
    assert lines[0].count("|") == lines[2].count("|") == 12
    assert not (tmp_path / "student").exists()
