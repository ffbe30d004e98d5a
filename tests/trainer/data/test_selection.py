import random

import pytest

from potstill.contract.errors import UserError
from potstill.contract.soft_label import SoftLabel
from potstill.trainer.data.selection import FEW_TEXTS, by_agreement, check_enough, is_validation, label_warnings, size_note, split

FILE = "soft_labels.parquet"


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
        "lower the minimum agreement, or label again with another prompt or teacher"
    )


def test_one_label_only_is_refused():
    rows = [soft_label(8, 0), soft_label(7, 1)]
    with pytest.raises(UserError, match="all 2 kept texts have the majority label 'up', but a student needs at least two"):
        check_enough(FILE, rows, by_agreement(rows, 0.5), 0.5)


def test_a_label_that_never_occurs_is_warned_about():
    assert label_warnings([soft_label(8, 0), soft_label(0, 8)], ["up", "flat", "down"]) == [
        "label 'flat' is the majority label of none of the 2 kept texts"
    ]


def test_many_labels_that_never_occur_are_one_warning_that_names_some():
    rows, rare = [soft_label(8, 0), soft_label(0, 8)], [f"intent_{i}" for i in range(9)]
    named = ", ".join(f"'{name}'" for name in rare[:8])
    assert label_warnings(rows, ["up", *rare[:2], "down"]) == [
        "2 of 4 labels are the majority label of none of the 2 kept texts: 'intent_0', 'intent_1'"
    ]
    assert label_warnings(rows, ["up", "down", *rare]) == [
        f"9 of 11 labels are the majority label of none of the 2 kept texts: {named} and 1 other"
    ]
    assert label_warnings(rows, ["up", "down"]) == []


def test_few_texts_are_noted_and_many_are_not():
    assert size_note(FEW_TEXTS) is None
    assert size_note(382).startswith("382 texts are few: students of about 400 were up to 6 points of macro-F1 below their teacher")


TEXTS = [f"text number {i}" for i in range(2000)]


def split_label(text, target=None):
    return SoftLabel(
        id=f"{text} {target}",
        text=text,
        probs={"a": 1.0, "b": 0.0},
        votes={"a": 8, "b": 0},
        agreement=1.0,
        n_paths=8,
        entropy=0.0,
        label_mass=1.0,
        method="votes",
        teacher_digest="t",
        task_digest="k",
        target=target,
    )


def test_the_share_is_about_what_was_asked_for():
    assert sum(is_validation(text, 0.15) for text in TEXTS) / len(TEXTS) == pytest.approx(0.15, abs=0.03)


@pytest.mark.parametrize(("share", "held_out"), [(0.0, 0), (1.0, len(TEXTS))])
def test_no_share_holds_out_nothing_and_a_whole_share_everything(share, held_out):
    assert sum(is_validation(text, share) for text in TEXTS) == held_out


def test_a_larger_share_only_adds_texts():
    assert {t for t in TEXTS if is_validation(t, 0.1)} <= {t for t in TEXTS if is_validation(t, 0.3)}


def test_added_rows_and_another_order_move_no_text():
    rows = [split_label(text) for text in TEXTS[:200]]
    more = [split_label(text) for text in TEXTS]
    random.Random(0).shuffle(more)
    before, after = split(rows, 0.2), split(more, 0.2)
    assert {row.text for row in before[1]} == {row.text for row in after[1]} & set(TEXTS[:200])
    assert {row.text for row in before[0]} == {row.text for row in after[0]} & set(TEXTS[:200])


def test_one_text_with_two_targets_is_on_one_side():
    rows = [split_label(text, target) for text in TEXTS[:100] for target in ("this", "that")]
    training, validation = split(rows, 0.3)
    assert not {row.text for row in training} & {row.text for row in validation}
    assert len(training) + len(validation) == 200


def test_the_side_of_a_text_is_fixed_for_good():
    place = 0x77F9C00421D39A1F / 2**64  # printf 'text number 0' | sha256sum
    assert is_validation("text number 0", place + 1e-9)
    assert not is_validation("text number 0", place - 1e-9)
