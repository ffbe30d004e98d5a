import random

import pytest

from potstill.contract.soft_label import SoftLabel
from potstill.trainer.data.split import is_validation, split

TEXTS = [f"text number {i}" for i in range(2000)]


def soft_label(text, target=None):
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
    rows = [soft_label(text) for text in TEXTS[:200]]
    more = [soft_label(text) for text in TEXTS]
    random.Random(0).shuffle(more)
    before, after = split(rows, 0.2), split(more, 0.2)
    assert {row.text for row in before[1]} == {row.text for row in after[1]} & set(TEXTS[:200])
    assert {row.text for row in before[0]} == {row.text for row in after[0]} & set(TEXTS[:200])


def test_one_text_with_two_targets_is_on_one_side():
    rows = [soft_label(text, target) for text in TEXTS[:100] for target in ("this", "that")]
    training, validation = split(rows, 0.3)
    assert not {row.text for row in training} & {row.text for row in validation}
    assert len(training) + len(validation) == 200


def test_the_side_of_a_text_is_fixed_for_good():
    place = 0x77F9C00421D39A1F / 2**64  # printf 'text number 0' | sha256sum
    assert is_validation("text number 0", place + 1e-9)
    assert not is_validation("text number 0", place - 1e-9)
