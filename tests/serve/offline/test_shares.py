"""`potstill shares`: intervals of label shares that hold with few gold texts."""

import json

import numpy as np
import pytest
from scipy import stats
from support.tiny_bundle import LABELS, some_heads, write_bundle

from potstill.commands.main import run
from potstill.contract.errors import FormatError, UserError
from potstill.serve.config import SharesConfig
from potstill.serve.offline.prediction_powered import (
    EXTRA_MISS,
    Observed,
    mean,
    mean_alone,
    share,
    share_alone,
    student_t,
    wilson,
)
from potstill.serve.offline.shares import shares_of
from potstill.serve.runtime.classifier import Classifier


def a_population(rate, quality, n=2000, seed=0):
    """Labels of a rate, and answers that are right with a probability."""
    rng = np.random.default_rng(seed)
    true = (rng.random(n) < rate).astype(float)
    said = np.where(rng.random(n) < quality, true, rng.random(n) < rate)
    return true, np.clip(0.1 + 0.8 * said + rng.normal(0, 0.05, n), 0, 1)


@pytest.mark.parametrize(("rate", "quality"), [(0.3, 0.9), (0.5, 0.2), (0.03, 0.8), (0.1, 1.0)])
@pytest.mark.parametrize("within", [True, False])
def test_an_interval_of_95_percent_holds_about_as_often_with_one_hundred_gold_texts(rate, quality, within):
    true, answers = a_population(rate, quality)
    rng, held, widths, alone = np.random.default_rng(1), [], [], []
    for _ in range(400):
        if within:
            gold, texts = rng.choice(len(true), 100, replace=False), np.arange(len(true))
        else:
            gold, texts = rng.integers(0, len(true), 100), rng.integers(0, len(true), 1000)
        found = share(Observed(true[gold], answers[gold], answers[texts], within), 0.95)
        held.append(found.low <= true.mean() <= found.high)
        widths.append(found.width)
        alone.append(share_alone(true[gold], 0.95).width)
    assert 0.925 <= np.mean(held) <= 0.995  # four standard errors below 95 %
    assert np.mean(widths) <= 1.01 * np.mean(alone)


def test_without_its_extra_miss_the_interval_of_a_rare_label_fails():
    true = (np.arange(2000) % 50 == 0) * 1.0
    answers = np.where(np.arange(2000) % 200 == 0, 0.0, 0.9 * true)  # a quarter of them is missed, and seldom drawn
    rng, held = np.random.default_rng(2), {0.0: [], EXTRA_MISS: []}
    for _ in range(300):
        gold = rng.choice(len(true), 100, replace=False)
        seen = Observed(true[gold], answers[gold], answers, True)
        for extra, outcomes in held.items():
            found = share(seen, 0.95, extra)
            outcomes.append(found.low <= true.mean() <= found.high)
    assert np.mean(held[0.0]) < 0.92 < np.mean(held[EXTRA_MISS])


def test_answers_that_say_nothing_leave_the_gold_texts_alone():
    gold = np.array([1.0] * 30 + [0.0] * 70)
    seen = Observed(gold, np.full(100, 0.4), np.full(500, 0.4), False)
    assert seen.weight == 0
    found, alone = share(seen, 0.95), share_alone(gold, 0.95)
    assert (found.value, found.low, found.high) == pytest.approx((alone.value, alone.low, alone.high), abs=1e-3)


def test_a_sample_without_the_label_is_the_interval_of_the_gold_texts_alone():
    found = share(Observed(np.zeros(100), np.full(100, 0.2), np.full(500, 0.2), True), 0.95)
    assert (found.low, found.high) == pytest.approx(wilson(0.0, 100, 0.95))


def test_perfect_answers_weigh_fully_and_shorten_the_interval():
    true, _ = a_population(0.3, 1.0)
    seen = Observed(true[:100], true[:100], true, True)
    assert seen.weight == pytest.approx(1.0)
    assert share(seen, 0.95).value == pytest.approx(true.mean())
    assert share(seen, 0.95).width < 0.3 * share_alone(true[:100], 0.95).width


def test_the_weight_is_the_one_with_the_smallest_variance():
    true, answers = a_population(0.3, 0.6)
    seen = Observed(true[:100], answers[:100], answers[500:1500], False)
    best = sum(seen.powered(seen.weight)[1:])
    assert all(best <= sum(seen.powered(weight)[1:]) * 1.02 for weight in np.linspace(0, 1, 21))


def test_the_mean_level_stays_between_the_levels_and_holds():
    rng, worth = np.random.default_rng(0), np.array([-1.0, 0.0, 1.0])
    true = rng.choice(worth, 2000, p=[0.1, 0.3, 0.6])
    answers = 0.7 * true + rng.normal(0, 0.2, 2000)
    held = []
    for _ in range(300):
        gold = rng.choice(2000, 100, replace=False)
        found = mean(Observed(true[gold], answers[gold], answers, True), worth, 0.95)
        held.append(found.low <= true.mean() <= found.high)
    assert 0.91 <= np.mean(held) <= 0.995
    top = mean_alone(np.full(30, 1.0), worth, 0.95)
    assert (top.low, top.high) == (1.0, 1.0)
    extra = mean(Observed(np.full(30, 1.0), np.full(30, 0.9), answers, True), worth, 0.95)
    assert extra.low < 1.0 == extra.high


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
@pytest.mark.parametrize("degrees", [18, 48, 98])
def test_the_quantile_of_student_is_scipys(confidence, degrees):
    assert student_t(confidence, degrees) == pytest.approx(stats.t.ppf((1 + confidence) / 2, degrees), abs=1e-3)


def test_wilsons_interval_is_scipys():
    expected = stats.binomtest(7, 40).proportion_ci(0.95, "wilson")
    assert wilson(7 / 40, 40, 0.95) == pytest.approx((expected.low, expected.high))


WORDS = ["rise", "fall", "stay", "the", "will", "price", *"abcdefgh"]


def some_texts(n, seed=0):
    rng, found = np.random.default_rng(seed), {}
    while len(found) < n:
        found.setdefault(" ".join(rng.choice(WORDS, rng.integers(2, 9))))
    return list(found)


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("one") / "bundle")


@pytest.fixture(scope="module")
def rows(bundle):
    """Texts whose gold label is mostly the bundle's answer, and often `flat` where it is `up`."""
    texts, rng = some_texts(400), np.random.default_rng(3)
    with Classifier.open(bundle) as classifier:
        top = [answer.label for answer in classifier.classify(texts)]
    gold = [("flat" if label == "up" and rng.random() < 0.5 else label) for label in top]
    return [{"text": text, "gold": label} for text, label in zip(texts, gold, strict=True)]


def test_the_command_shows_estimates_gold_alone_and_bare_answers(bundle, rows, tmp_path, capsys):
    texts, gold = (
        write(tmp_path / "texts.jsonl", [{"text": row["text"]} for row in rows]),
        write(tmp_path / "gold.jsonl", rows[:100]),
    )
    assert run(["shares", str(bundle), str(texts), "--gold", str(gold)]) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[:2] == [
        "shares in 400 texts from 100 gold texts and the bundle's answers",
        "the gold texts are among the texts; they must have been drawn from them at random",
    ]
    assert [line.split()[0] for line in lines[-3:]] == LABELS and said.err == ""
    found = shares_of(bundle, texts, gold)
    true = {name: sum(row["gold"] == name for row in rows) / len(rows) for name in LABELS}
    for one in found.questions[0].shares:
        assert one.estimate.low <= true[one.label] <= one.estimate.high
    up = found.questions[0].shares[0]
    assert abs(up.answered - true["up"]) > abs(up.estimate.value - true["up"])


def test_gold_texts_from_elsewhere_are_named_so(bundle, rows, tmp_path, capsys):
    texts, gold = write(tmp_path / "texts.jsonl", rows[:200]), write(tmp_path / "gold.jsonl", rows[190:240])
    assert run(["shares", str(bundle), str(texts), "--gold", str(gold), "--json"]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert (found["n_texts"], found["n_gold"], found["within"]) == (200, 50, False)
    assert said.err == "10 of 50 gold texts are among the texts, the others are not\n"
    assert set(found["questions"][0]["shares"][0]) == {"label", "estimate", "gold", "answered", "weight"}


def test_every_kind_of_question_has_shares(tmp_path):
    heads = some_heads(asks={"bias": None, "thresholds": None})
    bundle = write_bundle(tmp_path / "bundle", heads=heads)
    texts = some_texts(120, seed=1)
    answers = {"move": "up", "asks": True, "topics": ["news"], "sure": "low"}
    rows = [
        {"text": text, "gold": {**answers, "asks": i % 2 == 0, "sure": "high" if i % 3 else "low"}} for i, text in enumerate(texts)
    ]
    for row in rows[:100]:
        del row["gold"]["topics"]  # answered for too few texts
    found = shares_of(
        bundle, write(tmp_path / "texts.jsonl", [{"text": text} for text in texts]), write(tmp_path / "gold.jsonl", rows[:110])
    )
    assert [(one.name, one.n_gold) for one in found.questions] == [("move", 110), ("asks", 110), ("sure", 110)]
    assert found.notes == ["topics: has 10 gold texts; shares need at least 20"]
    level = found.questions[2].mean_level
    assert level.gold.value == pytest.approx(np.mean([1.0 if i % 3 else 0.0 for i in range(110)]))
    assert "mean level" in found.as_text() and "asks (yesno), 110 gold texts: 95% intervals" in found.as_text()


def test_too_few_gold_texts_and_other_labels_are_refused(bundle, rows, tmp_path):
    texts = write(tmp_path / "texts.jsonl", rows)
    few, other = write(tmp_path / "few.jsonl", rows[:19]), write(tmp_path / "other.jsonl", [{"text": "a", "gold": "sideways"}])
    with pytest.raises(UserError, match="few.jsonl: has 19 gold texts; shares need at least 20; label more texts, drawn at random"):
        shares_of(bundle, texts, few)
    with pytest.raises(FormatError, match="'sideways' is not a label; allowed: up, flat, down"):
        shares_of(bundle, texts, other)
    with pytest.raises(UserError, match="confidence is 95; it must be at least 0.5 and below 1"):
        SharesConfig(confidence=95)
    with pytest.raises(ValueError, match="2 labels, 2 answers to them, 5 answers in all"):
        Observed(np.zeros(2), np.zeros(2), np.zeros(5), True)
