from pathlib import Path

import pytest

from potstill.contract.errors import UserError
from potstill.contract.soft_label import SoftLabel
from potstill.trainer.data.selection import by_agreement, check_enough, label_warnings

FILE = Path("soft_labels.parquet")


def soft_label(up, down, n_paths=8):
    total = up + down
    return SoftLabel(
        id=f"{up}-{down}",
        text="t",
        probs={"up": up / total, "down": down / total} if total else {"up": 0.5, "down": 0.5},
        votes={"up": up, "down": down},
        agreement=max(up, down) / total if total else 0.0,
        n_paths=n_paths,
        entropy=0.0,
        label_mass=1.0,
        method="votes",
        teacher_digest="t",
        task_digest="k",
    )


def test_five_of_eight_pass_the_default_and_four_do_not():
    selection = by_agreement([soft_label(5, 3), soft_label(4, 4), soft_label(0, 8)], 5 / 8)
    assert [row.id for row in selection.kept] == ["5-3", "0-8"]
    assert (selection.n_disagreed, selection.n_unread, selection.n_dropped) == (1, 0, 1)


def test_a_threshold_that_lost_its_last_bit_still_lets_two_of_three_pass():
    assert len(by_agreement([soft_label(2, 1)], 0.6666666667).kept) == 1


def test_a_text_that_no_path_could_label_is_never_kept():
    selection = by_agreement([soft_label(0, 0), soft_label(8, 0)], 0.0)
    assert [row.id for row in selection.kept] == ["8-0"]
    assert selection.n_unread == 1


def test_nothing_left_is_refused_with_the_highest_agreement():
    rows = [soft_label(4, 4), soft_label(5, 3)]
    with pytest.raises(UserError) as caught:
        check_enough(FILE, rows, by_agreement(rows, 0.75), 0.75)
    assert str(caught.value) == (
        "soft_labels.parquet: none of 2 training texts has an agreement of at least 0.75 (the highest is 0.625); "
        "lower the wanted agreement, or label again with another prompt or teacher"
    )


def test_one_label_only_is_refused():
    rows = [soft_label(8, 0), soft_label(7, 1)]
    with pytest.raises(UserError, match="all 2 kept texts have the majority label 'up', but a student needs at least two"):
        check_enough(FILE, rows, by_agreement(rows, 0.5), 0.5)


def test_a_label_that_never_occurs_is_warned_about():
    assert label_warnings([soft_label(8, 0), soft_label(0, 8)], ["up", "flat", "down"]) == [
        "label 'flat' is the majority label of none of the 2 kept texts"
    ]
