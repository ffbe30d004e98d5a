import json

import pytest
from support.sample_texts import drawn_texts

from potstill.contract.errors import UserError
from potstill.trainer.pool_check.config import SampleConfig, TextSource
from potstill.trainer.pool_check.sample import sampled, without_shared
from potstill.trainer.pool_check.verdict import advice, as_json, as_text, check_pool, warning

pytestmark = pytest.mark.slow


def check(pool, target, **config):
    return check_pool(TextSource("pool.jsonl", pool), TextSource("target.jsonl", target), SampleConfig(**config))


def test_a_pool_of_the_same_source_is_no_warning():
    found = check(drawn_texts(400, 1), drawn_texts(200, 2))
    assert found.auc.low < 0.5 < found.auc.high
    assert not found.warns and warning(found) == ""
    assert (found.n_pool, found.n_target, found.n_each) == (400, 200, 200)


def test_different_lengths_alone_are_a_warning():
    found = check(drawn_texts(200, 1, words=(40, 80)), drawn_texts(200, 2, words=(5, 15)))
    assert found.auc_by_form.low > 0.95
    assert warning(found).startswith("warning: pool and target texts are easy to tell apart (AUC 1.000, over 0.8): ")


def test_texts_on_both_sides_or_twice_on_one_are_not_memorized():
    ours, theirs, both = drawn_texts(120, 1), drawn_texts(120, 2), drawn_texts(300, 3)
    found = check([*ours * 4, *both], [*theirs * 3, *(text.upper() for text in theirs), *both])
    assert found.auc.low < 0.5 < found.auc.high
    assert (found.n_repeated, found.n_shared, found.n_each) == ((360, 360), 300, 120)
    assert "left out: repeats (360 in the pool, 360 in the target), 300 texts that are on both sides" in as_text(found)


def test_no_more_texts_are_compared_than_asked_for_and_the_seed_decides_which():
    pool, target = drawn_texts(200, 1), drawn_texts(200, 2)
    first = check(pool, target, max_texts=60)
    assert first.n_each == 60 and first.auc.n == 120
    assert check(pool, target, max_texts=60) == first
    assert check(pool, target, max_texts=60, seed=1).auc != first.auc


def test_the_text_names_what_gives_the_pool_away():
    found = check([f"Title\n\n{text} zebra" for text in drawn_texts(100, 1)], drawn_texts(100, 2))
    lines = as_text(found).splitlines()
    assert lines[0] == "100 of 100 pool texts against 100 of 100 target texts"
    assert ["everything", "1.000", "[1.000,", "1.000]"] in [line.split() for line in lines]
    assert ["zebra", "100.0%", "0.0%"] in [line.split() for line in lines]
    assert any(line.startswith("a title (short first line, then a blank one)  100.0%  0.0%") for line in lines)


def test_the_json_has_every_figure():
    found = check(drawn_texts(100, 1, words=(40, 80)), drawn_texts(100, 2, words=(5, 15)))
    content = json.loads(as_json(found))
    assert content["warning"] is True
    assert content["auc"] == {"value": found.auc.value, "low": found.auc.low, "high": found.auc.high, "n": 200}
    assert content["found"]["pool_length"]["median"] == pytest.approx(found.found.pool_length.median)
    assert content["found"]["pool_words"] == [] and content["n_shared"] == 0


def test_a_warning_says_what_to_do_and_no_warning_says_nothing():
    short = drawn_texts(100, 2, words=(5, 15))
    found = check([f"Title\n\n{text}" for text in drawn_texts(100, 1, words=(40, 80))], short)
    length = found.found.target_length
    assert advice(found) == [
        f"drop or cut pool texts by length: half of the target texts have {length.low:.0f} to {length.high:.0f} characters",
        "cut titles (100% of the pool, 0% of the target texts)",
        "put each text on one line (100% of the pool, 0% of the target texts)",
        *advice(found)[3:],
    ]
    assert advice(found)[-1] == "then check again" and "what to do:\n  drop or cut" in as_text(found)
    alike = check(drawn_texts(100, 1), drawn_texts(100, 2))
    assert advice(alike) == [] and "what to do" not in as_text(alike)


# --- the sample


def sides(pool, target):
    return TextSource("pool.jsonl", pool), TextSource("target.jsonl", target)


def test_repeats_and_texts_of_both_sides_are_left_out_and_counted():
    ours, theirs = drawn_texts(80, 1), drawn_texts(70, 2)
    found = without_shared(*sides([*ours, *ours[:3], theirs[0].upper(), theirs[1]], [*theirs, f"  {theirs[5]}\n", theirs[1]]))
    assert found.pool == ours
    assert found.target == theirs[2:]
    assert found.n_repeated == (3, 2) and found.n_shared == 2


@pytest.mark.parametrize(
    ("pool", "target", "message"),
    [
        (
            drawn_texts(49, 1),
            drawn_texts(60, 2),
            "pool.jsonl: holds 49 different texts; at least 50 are needed on each side; add some",
        ),
        (
            drawn_texts(60, 1),
            drawn_texts(20, 2) * 5,
            "target.jsonl: holds 20 different texts; at least 50 are needed on each side; add some",
        ),
        (
            drawn_texts(90, 1),
            drawn_texts(90, 1)[:60] + drawn_texts(9, 2),
            "pool.jsonl: 30 different texts are left without the 60 that are on both sides; at least 50 are needed, "
            "and shared texts cannot be told apart",
        ),
    ],
)
def test_too_few_texts_of_a_side_are_refused(pool, target, message):
    with pytest.raises(UserError) as caught:
        without_shared(*sides(pool, target))
    assert str(caught.value) == message


def test_a_draw_takes_each_text_once_in_order_and_is_the_same_for_the_same_seed():
    texts = [str(i) for i in range(100)]
    found = sampled(texts, 30, 7)
    assert len(set(found)) == 30 and found == sorted(found, key=int)
    assert found == sampled(texts, 30, 7) != sampled(texts, 30, 8)
    assert sampled(texts, 100, 7) == texts


@pytest.mark.parametrize("n", [49, 10_001])
def test_a_number_of_texts_out_of_range_is_refused(n):
    with pytest.raises(UserError) as caught:
        SampleConfig(max_texts=n)
    assert str(caught.value) == f"max_texts is {n}; it must be from 50 to 10000"
