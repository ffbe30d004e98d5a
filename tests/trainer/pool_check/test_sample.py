import pytest
from support.drawn_texts import drawn_texts

from potstill.contract.errors import UserError
from potstill.trainer.pool_check.sample import SampleConfig, Side, cleaned, drawn


def sides(pool, target):
    return Side("pool.jsonl", pool), Side("target.jsonl", target)


def test_repeats_and_texts_of_both_sides_are_left_out_and_counted():
    ours, theirs = drawn_texts(80, 1), drawn_texts(70, 2)
    found = cleaned(*sides([*ours, *ours[:3], theirs[0].upper(), theirs[1]], [*theirs, f"  {theirs[5]}\n", theirs[1]]))
    assert found.pool == ours
    assert found.target == theirs[2:]
    assert found.n_repeated == (3, 2) and found.n_shared == 2


@pytest.mark.parametrize(
    ("pool", "target", "message"),
    [
        (
            drawn_texts(49, 1),
            drawn_texts(60, 2),
            "pool.jsonl: holds 49 different texts; at least 50 are needed on each side: add some",
        ),
        (
            drawn_texts(60, 1),
            drawn_texts(20, 2) * 5,
            "target.jsonl: holds 20 different texts; at least 50 are needed on each side: add some",
        ),
        (
            drawn_texts(90, 1),
            drawn_texts(90, 1)[:60] + drawn_texts(9, 2),
            "pool.jsonl: 30 different texts are left without the 60 that stand on the other side too; at least 50 are needed, "
            "and what stands on both sides cannot be told apart",
        ),
    ],
)
def test_too_few_texts_of_a_side_are_refused(pool, target, message):
    with pytest.raises(UserError) as caught:
        cleaned(*sides(pool, target))
    assert str(caught.value) == message


def test_a_draw_takes_each_text_once_in_order_and_is_the_same_for_the_same_seed():
    texts = [str(i) for i in range(100)]
    found = drawn(texts, 30, 7)
    assert len(set(found)) == 30 and found == sorted(found, key=int)
    assert found == drawn(texts, 30, 7) != drawn(texts, 30, 8)
    assert drawn(texts, 100, 7) == texts


@pytest.mark.parametrize("n", [49, 10_001])
def test_a_number_of_texts_out_of_range_is_refused(n):
    with pytest.raises(UserError) as caught:
        SampleConfig(max_texts=n)
    assert str(caught.value) == f"{n} texts of a side; allowed: 50 to 10000"
