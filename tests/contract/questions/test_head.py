from types import SimpleNamespace

import msgspec
import pytest

from potstill.contract.errors import FormatError
from potstill.contract.questions.head import Head, check_heads, flat_labels, ranges

HEADS = [
    Head(name="move", kind="choice", labels=["up", "down"], thresholds={"up": 0.7}),
    Head(name="asks", kind="yesno", labels=["yes", "no"]),
    Head(name="topics", kind="tags", labels=["news"], thresholds={"news": 0.3}, bias=[0.5]),
    Head(name="sure", kind="degree", labels=["low", "high"], values=[0.0, 1.0]),
]


def checked(tmp_path, heads, labels=None):
    check_heads(tmp_path / "student.json", SimpleNamespace(heads=heads, labels=flat_labels(heads) if labels is None else labels))


def test_heads_cover_the_outputs_one_after_the_other(tmp_path):
    checked(tmp_path, HEADS)
    assert flat_labels(HEADS) == ["move/up", "move/down", "asks/yes", "asks/no", "topics/news", "sure/low", "sure/high"]
    assert [(part.start, part.stop) for part in ranges(HEADS)] == [(0, 2), (2, 4), (4, 5), (5, 7)]


@pytest.mark.parametrize(
    ("index", "changes", "problem"),
    [
        (0, {"temperature": 0.0}, "heads[0].temperature: is 0.0"),
        (0, {"thresholds": {"flat": 0.5}}, "heads[0].thresholds.flat: is not a label"),
        (1, {"name": "move"}, "heads[1].name: repeats 'move'"),
        (1, {"labels": ["no", "yes"]}, "heads[1].labels: are ['no', 'yes']; those of a yesno question"),
        (2, {"thresholds": {"news": 1.5}}, "heads[2].thresholds.news: is 1.5"),
        (2, {"temperature": float("nan")}, "heads[2].temperature: is nan"),
        (2, {"bias": [1.0, 2.0]}, "heads[2].bias: has 2 numbers"),
        (3, {"values": None}, "heads[3].values: are None; a head of kind degree has them"),
        (3, {"values": [1.0, 0.0]}, "heads[3].values: are [1.0, 0.0]; they must be finite and rise"),
        (0, {"values": [1.0, 2.0]}, "heads[0].values: are [1.0, 2.0]; a head of kind degree"),
    ],
)
def test_a_head_that_contradicts_itself_is_refused(tmp_path, index, changes, problem):
    heads = [msgspec.structs.replace(head, **changes) if i == index else head for i, head in enumerate(HEADS)]
    with pytest.raises(FormatError) as caught:
        checked(tmp_path, heads)
    assert problem in str(caught.value)


def test_outputs_that_are_not_the_heads_are_refused(tmp_path):
    with pytest.raises(FormatError, match="labels: are not those of the heads"):
        checked(tmp_path, HEADS, ["a", "b"])
