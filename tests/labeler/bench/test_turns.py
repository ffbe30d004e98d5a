import pytest

from potstill.labeler.bench.turns import Turn, speed_ratio, take_turns, time_ratio


class Counter:
    """A part that takes no time and notes when it was asked."""

    def __init__(self, name: str, calls: list) -> None:
        self.name, self.calls = name, calls

    def warm_up(self) -> None:
        pass

    def turn(self, rows: range) -> Turn:
        self.calls.append((self.name, rows))
        return Turn(1.0, len(rows))

    def close(self) -> None:
        pass


def test_every_part_gets_every_text_and_the_order_turns_round():
    calls, shown = [], []
    turns = take_turns([Counter("a", calls), Counter("b", calls)], 5, 2, lambda *step: shown.append(step))
    first, second, third = range(2), range(2, 4), range(4, 5)
    assert calls == [("a", first), ("b", first), ("b", second), ("a", second), ("a", third), ("b", third)]
    assert turns == {name: [Turn(1.0, 2), Turn(1.0, 2), Turn(1.0, 1)] for name in "ab"}
    assert shown[0] == ("bench", 2, 10) and shown[-1] == ("bench", 10, 10)


def test_a_ratio_is_of_the_totals_with_its_range():
    turns = {"slow": [Turn(4.0, 1), Turn(6.0, 1)], "fast": [Turn(1.0, 1), Turn(4.0, 1)]}
    ratio = time_ratio(turns, "slow", "fast")
    assert (ratio.value, ratio.low, ratio.high) == (2.0, 1.5, 4.0)


def test_a_turn_without_tokens_counts_in_the_totals_only():
    turns = {"part": [Turn(1.0, 10), Turn(1.0, 10)], "limit": [Turn(0.0, 0), Turn(1.0, 40)]}
    ratio = speed_ratio(turns, "part", "limit")
    assert (ratio.value, ratio.low, ratio.high) == (0.25, 0.25, 0.25)


@pytest.mark.parametrize("ratio", [time_ratio, speed_ratio])
def test_what_was_not_measured_has_no_ratio(ratio):
    assert ratio({"a": [Turn(1.0, 1)]}, "a", "b") is None
    assert ratio({"a": [Turn(1.0, 1)]}, "b", "a") is None
