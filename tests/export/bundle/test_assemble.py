"""What a bundle carries as golden texts."""

from potstill.contract.bundle import MAX_GOLDEN, MAX_GOLDEN_CHARS, golden_chars
from potstill.contract.task import Example
from potstill.export.bundle.assemble import EDGE_CASES, _in_bounds


def examples(n_each: int, text: str, labels: str = "abc") -> list[Example]:
    return [Example(text=f"{i} {text}", label=label) for label in labels for i in range(n_each)]


def test_the_examples_of_an_ordinary_task_are_all_golden():
    usual = examples(2, "Third quarter in a row that they beat and raise. I am not selling." * 3)
    assert _in_bounds(usual) == usual
    assert _in_bounds([]) == []


def test_of_many_long_examples_each_label_keeps_its_first_ones_as_far_as_a_reader_goes():
    many = examples(60, "word " * 300)
    kept = _in_bounds(many)
    assert sum(golden_chars(text) for text in [*EDGE_CASES, *(one.text for one in kept)]) <= MAX_GOLDEN_CHARS
    by_label = [[one.text.split()[0] for one in kept if one.label == label] for label in "abc"]
    assert all(own == [str(i) for i in range(len(own))] for own in by_label)
    n_kept = [len(own) for own in by_label]
    assert min(n_kept) >= 15 and max(n_kept) - min(n_kept) <= 1


def test_of_very_many_short_examples_so_many_are_kept_as_a_reader_takes():
    assert len(_in_bounds(examples(2000, "up", "ab"))) == MAX_GOLDEN - len(EDGE_CASES)
