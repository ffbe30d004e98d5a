from itertools import pairwise

from support.judged_texts import a_soft_label

from potstill.trainer.report.learning_curve import SHARES, nested_part

ROWS = [a_soft_label(f"text {i}", [8, 0, 0]) for i in range(97)]


def test_a_smaller_part_lies_within_every_larger_one_in_file_order():
    parts = [nested_part(ROWS, share) for share in SHARES]
    assert [len(part) for part in parts] == [10, 19, 48, 97]
    for small, large in pairwise(parts):
        assert [row for row in large if row in small] == small
    assert parts[-1] == ROWS


def test_the_order_of_the_file_does_not_choose_the_part():
    assert {row.id for row in nested_part(ROWS[::-1], 0.2)} == {row.id for row in nested_part(ROWS, 0.2)}


def test_a_part_holds_at_least_one_row():
    assert len(nested_part(ROWS[:2], 0.1)) == 1
