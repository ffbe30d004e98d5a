import numpy as np
import pytest
from support.toy_task import LABELS, QUICK, a_task, quick, toy_rows, write_rows

from potstill.contract.errors import StoppedError, UserError
from potstill.contract.scores.record import Score
from potstill.trainer.config import TrainConfig
from potstill.trainer.data.targets import mixed_target
from potstill.trainer.run import train
from potstill.trainer.training.ensemble import fold_of, train_ensemble
from potstill.trainer.training.resume import work_folder

pytestmark = pytest.mark.slow


@pytest.fixture
def work(tmp_path):
    with work_folder(tmp_path / "student", {}, "resume", 60.0, writes=True) as work:
        yield work


def ensemble_of(rows, n_members, n_folds, work, teach):
    """The students of stated seeds and folds; how well they agree is not asked."""
    config = TrainConfig(seeds=n_members, folds=n_folds)
    return train_ensemble([row.text for row in rows], config, work, teach, lambda probs: {"accuracy": Score(1, 1, 1, 1)})


@pytest.mark.parametrize(("n_members", "n_folds"), [(3, 3), (5, 2), (2, 2)])
def test_a_texts_target_comes_only_from_students_that_have_not_seen_it(work, n_members, n_folds):
    rows, seen = toy_rows(60, a_task()), {}

    def teach(member, places):
        seen[member] = set(places)
        memorised = np.array([[1.0, 0, 0] if place in places else [0, 1.0, 0] for place in range(len(rows))])
        return memorised, np.full((4, 3), 1 / 3)

    ensemble = ensemble_of(rows, n_members, n_folds, work, teach)
    np.testing.assert_array_equal(ensemble.training, np.tile([0, 1.0, 0], (60, 1)))
    assert all(0 < len(places) < 60 for places in seen.values())
    assert set.union(*seen.values()) == set(range(60))


def test_without_folds_every_student_sees_every_text_and_the_mean_is_of_all(work):
    rows = toy_rows(12, a_task())
    said = [np.full((12, 3), value) for value in (0.2, 0.4)]

    def teach(member, places):
        assert places == list(range(12))
        return said[member], said[member][:4]

    ensemble = ensemble_of(rows, 2, 1, work, teach)
    np.testing.assert_allclose(ensemble.training, 0.3)
    np.testing.assert_allclose(ensemble.validation, 0.3)


def test_students_that_are_done_are_not_trained_again(tmp_path):
    rows = toy_rows(30, a_task())
    asked = []

    def teach(member, places):
        asked.append(member)
        if asked == [0, 1]:
            raise StoppedError("stopped")
        return np.full((30, 3), 1 / 3), np.full((4, 3), 1 / 3)

    def run():
        with work_folder(tmp_path / "student", {}, "resume", 60.0, writes=True) as work:
            return ensemble_of(rows, 3, 3, work, teach)

    with pytest.raises(StoppedError):
        run()
    run()
    assert asked == [0, 1, 1, 2]
    assert list(tmp_path.iterdir()) == []


def test_a_texts_fold_is_its_own_and_folds_are_of_like_size():
    folds = [fold_of(f"text {number}", 4) for number in range(2000)]
    assert folds == [fold_of(f"text {number}", 4) for number in range(2000)]
    assert np.bincount(folds).min() > 420


def test_the_weight_leads_from_the_students_mean_to_the_teachers_label():
    mean = np.array([0.2, 0.8])
    assert mixed_target([1.0, 0.0], mean, 1.0) == [1.0, 0.0]
    assert mixed_target([1.0, 0.0], mean, 0.0) == pytest.approx([0.2, 0.8])
    assert mixed_target([1.0, 0.0], mean, 0.5) == pytest.approx([0.6, 0.4])


def test_the_report_shows_every_student_their_mean_and_the_one_that_is_written(backbone, tmp_path):
    path = write_rows(tmp_path / "soft_labels.jsonl", toy_rows(120, a_task()))
    report = train(a_task(), path, tmp_path / "student", quick(backbone, epochs=1, seeds=2))
    lines = report.as_text().splitlines()
    assert [line.partition(":")[0] for line in lines[3:6]] == [
        *("student of seed 0", "student of seed 1"),
        "mean of 2 students, each without one of 2 folds",
    ]
    assert lines[6].startswith("agrees with the teacher on ")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["soft_labels.jsonl", "student"]
    assert report.ensemble.training.shape == (report.n_kept, len(LABELS))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": 0}, r"^seeds is 0; it must be at least 1$"),
        ({"seeds": 2, "folds": 3}, r"^folds is 3; it must be from 1 to the number of seeds, 2$"),
        ({"teacher_weight": 1.5}, r"^teacher_weight is 1.5; it must be from 0 to 1$"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        TrainConfig(**(QUICK | changes))
