"""Random order whatever the file's, copies left out, and gold spread among the others."""

from potstill.contract.texts import Text
from potstill.labeler.run.text_order import at_random, with_gold_between, without_copies


def test_the_order_is_the_same_whatever_that_of_the_file():
    texts = [Text(f"text {i}", str(i)) for i in range(200)]
    drawn = at_random(texts)
    assert drawn == at_random(texts[::-1]) and sorted(drawn, key=lambda text: int(text.id)) == texts
    first = [int(text.id) for text in drawn[:50]]
    assert 60 < sum(first) / 50 < 140  # a sample of all, not the beginning


def test_a_copy_is_left_out_but_for_gold():
    texts = [
        Text("Buy now", "1"),
        Text("buy  NOW ", "2"),
        Text("Buy now", "3", target="x"),
        Text("buy now", "4", gold="up"),
        Text("sell", "5"),
    ]
    assert [text.id for text in without_copies(texts)] == ["1", "3", "4", "5"]


def test_any_beginning_holds_the_same_share_of_gold():
    texts, gold = [Text(str(i), str(i)) for i in range(90)], [Text(f"g{i}", f"g{i}", gold="up") for i in range(10)]
    merged = with_gold_between(texts, gold)
    assert sorted(text.id for text in merged) == sorted(text.id for text in [*texts, *gold])
    for n in range(10, 101, 10):
        assert abs(sum(text.gold is not None for text in merged[:n]) - n / 10) <= 1
    assert with_gold_between([], gold) == gold and with_gold_between(texts, []) == texts
