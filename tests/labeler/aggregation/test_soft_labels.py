"""Soft labels follow from the stored paths alone. The teacher here is a table: the rules are about votes, not about llama.cpp."""

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from potstill.contract.errors import FormatError, UserError
from potstill.contract.soft_label import read_soft_labels, write_soft_labels
from potstill.labeler.aggregation.config import DEFAULTS, METHODS, DeriveConfig
from potstill.labeler.aggregation.notes import label_warnings
from potstill.labeler.aggregation.other_texts.smoothing import Neighbours
from potstill.labeler.aggregation.other_texts.surroundings import Surroundings
from potstill.labeler.aggregation.path_table import read_paths
from potstill.labeler.aggregation.soft_labels import averaged, calibrated, derive, distributions, soft_labels

pytestmark = pytest.mark.slow

WORDS = {"words": ["up", "rise", "down"], "word_labels": [0, 0, 1]}
LABELS = ["up", "down", "flat"]
PRIOR = {"up": 0.2, "down": 0.5, "flat": 0.3}


def in_turn(*paths):
    """Paths of variants 0 and 1 in turn."""
    return [(i % 2, probs) for i, probs in enumerate(paths)]


def answers(n=300, variants=3, *, shares=(1 / 3, 1 / 3, 1 / 3), bias=(2.0, 0.0, -1.0), strength=1.0, seed=0, asked=None):
    """Paths of a teacher that leans to one label, by text, and the gold labels. `asked(variant, text)`: whether it was."""
    rng = np.random.default_rng(seed)
    gold = rng.choice(3, n, p=shares)
    logits = strength * np.eye(3)[gold][:, None] + rng.normal(size=(n, variants, 3)) + np.array(bias)
    drawn = [[v for v in range(variants) if asked is None or asked(v, i)] for i in range(n)]
    return {f"{i:04d}": [(v, tuple(softmax(logits[i, v]))) for v in own] for i, own in enumerate(drawn)}, gold


def probs_of(rows):
    return np.array([list(row.probs.values()) for row in rows])


def test_mean_averages_the_paths_with_label_words_summed(stored):
    (row,) = soft_labels(*stored({"a": in_turn((0.1, 0.2, 0.1), (0.1, 0.1, 0.2))}, **WORDS), DeriveConfig(method="mean"))
    assert row.probs == pytest.approx({"up": (0.75 + 0.5) / 2, "down": (0.25 + 0.5) / 2})
    assert row.label_mass == pytest.approx(0.4)
    assert row.n_paths == 2


def test_votes_are_the_share_of_paths(stored):
    table = {"a": in_turn(*[(0.5, 0.1, 0.2)] * 3, (0.1, 0.1, 0.7))}
    (row,) = soft_labels(*stored(table, **WORDS), DeriveConfig(method="votes"))
    assert row.probs == {"up": 0.75, "down": 0.25}
    assert row.votes == {"up": 3, "down": 1}
    assert row.agreement == 0.75


def test_calibration_is_within_each_variant_so_a_variant_s_own_bias_goes(stored):
    # variant 0 leans to "up", variant 1 to "down"; only text b is really different from a
    table = {"a": in_turn((0.8, 0.1), (0.1, 0.8)), "b": in_turn((0.6, 0.3), (0.04, 0.9))}
    rows = {row.id: row for row in soft_labels(*stored(table))}
    assert rows["a"].votes == {"up": 2, "down": 0}
    assert rows["b"].votes == {"up": 0, "down": 2}
    np.testing.assert_allclose(np.mean([row.probs["up"] for row in rows.values()]), 0.5, atol=1e-5)


@pytest.mark.parametrize("mode", ["direct", "cot"])
@pytest.mark.parametrize("method", ["calibrated", "matched"])
def test_the_mean_of_all_soft_labels_is_the_stated_prior(stored, method, mode):
    table, _ = answers(shares=(0.6, 0.2, 0.2))
    rows = soft_labels(*stored(table, labels=LABELS, mode=mode), DeriveConfig(method=method, prior=PRIOR, refine="off"))
    np.testing.assert_allclose(probs_of(rows).mean(axis=0), list(PRIOR.values()), atol=1e-5)
    assert {row.method for row in rows} == {f"{method}(up=0.2,down=0.5,flat=0.3)"}


def test_matched_meets_the_prior_whatever_was_done_before(stored):
    table, _ = answers(asked=lambda variant, text: variant == 0 or text % 3 == 0)
    store, run = stored(table, labels=LABELS, bound=0.9)
    near = Neighbours(np.roll(np.arange(300), 1)[:, None], np.ones((300, 1)))
    found = read_paths(store, run)
    matched, plain = (
        distributions(found, run.settings, DeriveConfig(method=method, prior=PRIOR), Surroundings(near=near)).probs
        for method in ("matched", "calibrated")
    )
    np.testing.assert_allclose(matched.mean(axis=0), list(PRIOR.values()), atol=1e-5)
    assert np.abs(plain.mean(axis=0) - list(PRIOR.values())).max() > 1e-3


def test_the_majority_gets_everything_and_a_tie_goes_to_the_more_probable_label(stored):
    table = {
        "a": in_turn((0.9, 0.1), (0.4, 0.6)), "b": in_turn((0.1, 0.9), (0.6, 0.4)), "c": in_turn((0.2, 0.8), (0.3, 0.7)), "d": in_turn((0.8, 0.2), (0.7, 0.3)),
    }  # fmt: skip
    rows = {row.id: row.probs for row in soft_labels(*stored(table), DeriveConfig(method="majority"))}
    assert rows == {"a": {"up": 1, "down": 0}, "b": {"up": 0, "down": 1}, "c": {"up": 0, "down": 1}, "d": {"up": 1, "down": 0}}


@pytest.mark.parametrize("method", ["calibrated", "mean", "votes"])
def test_an_adaptive_run_gives_the_posterior_mean(stored, method):
    table, _ = answers(n=60, asked=lambda variant, text: variant < 1 + text % 3)
    store, run = stored(table, labels=LABELS, bound=0.9)
    rows = soft_labels(store, run, DeriveConfig(method=method))
    fixed = distributions(
        read_paths(store, run), type(run.settings)(**{**as_dict(run.settings), "bound": 0.0}), DeriveConfig(method=method)
    )
    n = np.array([[row.n_paths] for row in rows])
    np.testing.assert_allclose(probs_of(rows), (n * fixed.probs + 1 / 3) / (n + 1))
    assert {row.method for row in rows} == {f"{method}+posterior"}


def as_dict(settings):
    return {name: getattr(settings, name) for name in settings.__struct_fields__}


def test_the_posterior_of_few_unanimous_paths_is_short_of_certain_and_more_paths_come_closer():
    counts = np.array([[2.0, 0.0], [8.0, 0.0], [0.0, 0.0]])
    np.testing.assert_allclose(averaged(counts, adaptive=True), [[2.5 / 3, 0.5 / 3], [8.5 / 9, 0.5 / 9], [0.5, 0.5]])
    np.testing.assert_allclose(averaged(counts[:2], adaptive=False), [[1, 0], [1, 0]])


def hard_and_easy(n=2000):
    """A cascade: two direct variants on all texts, `cot` on the third whose labels the direct ones leave open, most of them flat."""
    rng = np.random.default_rng(0)
    hard = np.arange(n) % 3 == 0
    gold = np.where(hard, rng.choice(3, n, p=(0.1, 0.2, 0.7)), rng.choice(3, n, p=(0.45, 0.4, 0.15)))
    truth = np.eye(3)[gold]
    direct = truth[:, None] * np.where(hard, 1.0, 4.0)[:, None, None] + rng.normal(size=(n, 2, 3)) + np.array([2.0, 0, 0])
    cot = 2.0 * truth + rng.normal(size=(n, 3)) + np.array([0, 0, -4.0])
    table = {}
    for i in range(n):
        table[f"{i:04d}"] = [(v, tuple(softmax(direct[i, v]))) for v in range(2)] + (
            [(2, tuple(softmax(cot[i])))] if hard[i] else []
        )
    return table, gold, hard


def test_a_variant_asked_about_some_texts_only_is_brought_to_what_the_earlier_ones_say_of_them(stored):
    table, gold, hard = hard_and_easy()
    prior = np.bincount(gold) / len(gold)
    store, run = stored(table, labels=LABELS, mode="cascade", n_direct=2, n_variants=3)
    paths = read_paths(store, run)
    logprobs = calibrated(paths, prior)
    cot = paths.variants == 2
    true_shares = np.bincount(gold[hard]) / hard.sum()  # 0.1, 0.2, 0.7: nothing like the prior
    found = np.exp(logprobs[cot]).mean(axis=0)
    assert np.abs(found - true_shares).max() < 0.6 * np.abs(prior - true_shares).max()
    naive = paths.logprobs[cot] + np.log(prior / np.exp(paths.logprobs[cot]).mean(axis=0))
    for _ in range(300):  # what calibrating it to everybody's shares would give
        naive = log_softmax(naive + np.log(prior / np.exp(log_softmax(naive, axis=1)).mean(axis=0)), axis=1)
    own_gold = gold[paths.owners[cot]]
    accuracy, naive_accuracy = ((rows.argmax(axis=1) == own_gold).mean() for rows in (logprobs[cot], naive))
    assert accuracy > naive_accuracy + 0.02
    for variant in (0, 1):
        np.testing.assert_allclose(np.exp(logprobs[paths.variants == variant]).mean(axis=0), prior, atol=1e-5)


def test_within_a_variant_a_text_counts_once_however_many_paths_it_took(stored):
    few, _ = answers(n=200, variants=1)
    many = {text_id: own * (9 if int(text_id) % 4 == 0 else 1) for text_id, own in few.items()}
    store, run = stored(many, labels=LABELS, mode="cot")
    paths = read_paths(store, run)
    once = np.unique(paths.owners, return_index=True)[1]
    np.testing.assert_allclose(np.exp(calibrated(paths)[once]).mean(axis=0), 1 / 3, atol=1e-5)


def test_a_useless_variant_counts_little_when_variants_are_weighed_by_agreement(stored):
    table, gold = answers(n=600, variants=3, strength=1.5)
    noise, _ = answers(n=600, variants=1, strength=0.0, seed=1)
    both = {i: [*own, *((3 + k, tuple(softmax(4 * np.log(p)))) for k in range(1) for _, p in noise[i])] for i, own in table.items()}
    store, run = stored(both, labels=LABELS)
    even, weighed = (probs_of(soft_labels(store, run, DeriveConfig(weighting=w, refine="off"))) for w in ("even", "agreement"))
    alone = distributions(read_paths(store, run), run.settings, DEFAULTS).probs
    np.testing.assert_allclose(even, alone)
    assert (weighed.argmax(axis=1) == gold).mean() > (even.argmax(axis=1) == gold).mean() + 0.02
    assert soft_labels(store, run, DeriveConfig(weighting="agreement", refine="off"))[0].method == "calibrated+agreement"


def test_too_few_variants_cannot_be_weighed(stored):
    with pytest.raises(UserError) as caught:
        soft_labels(*stored({"a": in_turn((0.5, 0.4), (0.3, 0.6))}), DeriveConfig(weighting="agreement"))
    assert str(caught.value) == "weighting agreement needs at least 3 prompt variants, and the run has 2; use even"


def test_affine_uses_gold_across_folds_and_says_when_there_is_too_little(stored):
    table, gold = answers(n=200, shares=(0.7, 0.2, 0.1))
    labels = {f"{i:04d}": LABELS[gold[i]] for i in range(0, 200, 2)}
    store, run = stored(table, labels, labels=LABELS)
    plain, mapped = (probs_of(soft_labels(store, run, DeriveConfig(method=m)))[1::2] for m in ("calibrated", "affine"))
    truth = gold[1::2]  # none of these had its gold label in the store
    assert -np.log(mapped[np.arange(100), truth]).mean() < -np.log(plain[np.arange(100), truth]).mean() - 0.1


def test_affine_without_gold_is_refused(stored):
    with pytest.raises(UserError, match="method affine needs at least 10 texts with gold, and the run has 0"):
        soft_labels(*stored({"a": in_turn((0.5, 0.4))}), DeriveConfig(method="affine"))


def test_gold_changes_no_soft_label_but_those_of_affine(stored):
    table, gold = answers(n=40)
    store, run = stored(table, labels=LABELS)
    configs = [DeriveConfig(method=m, prior=PRIOR if m == "matched" else None) for m in METHODS if m != "affine"]
    configs.append(DeriveConfig(weighting="agreement"))
    before = [probs_of(soft_labels(store, run, config)) for config in configs]
    store.add_texts([type(t)(t.text, t.id, gold=LABELS[gold[int(t.id)]]) for t in store.texts().values()])
    for config, earlier in zip(configs, before, strict=True):
        assert (probs_of(soft_labels(store, run, config)) == earlier).all()


def test_scaling_every_word_probability_changes_nothing_but_the_mass(stored):
    table = {"a": in_turn((0.6, 0.2)), "b": in_turn((0.2, 0.4))}
    store, whole = stored(table)
    first = soft_labels(store, whole)
    store.close()
    halved = stored({i: [(v, tuple(p / 2 for p in probs)) for v, probs in own] for i, own in table.items()}, seed=1)
    for one, other in zip(first, soft_labels(*halved), strict=True):
        assert one.probs == pytest.approx(other.probs)
        assert one.label_mass == pytest.approx(2 * other.label_mass)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_what_is_derived_keeps_the_format_s_promises_and_its_gold(tmp_path, stored, method, suffix):
    table, gold = answers(n=30)
    store, run = stored(table, {f"{i:04d}": LABELS[gold[i]] for i in range(20)}, labels=LABELS)
    wanted = ["0003", "0025"]
    rows = soft_labels(store, run, DeriveConfig(method=method, prior=PRIOR if method == "matched" else None), wanted)
    write_soft_labels(tmp_path / f"soft{suffix}", rows)
    assert read_soft_labels(tmp_path / f"soft{suffix}", labels=LABELS) == rows
    assert [row.gold for row in rows] == [LABELS[gold[3]], None]


def test_texts_come_in_the_wanted_order_and_those_without_a_path_are_left_out(stored):
    store, run = stored({"a": in_turn((0.3, 0.1)), "b": in_turn((0.2, 0.4))})
    assert [row.id for row in soft_labels(store, run, ids=["b", "unknown", "a"])] == ["b", "a"]


def test_a_run_without_a_path_says_what_to_do(stored):
    with pytest.raises(UserError, match="holds no path of this run yet; run: potstill label"):
        soft_labels(*stored({}))


def test_a_gold_label_of_another_task_in_the_same_store_is_refused(stored):
    store, run = stored({"a": in_turn((0.3, 0.1))}, {"a": "sideways"})
    with pytest.raises(FormatError) as caught:
        soft_labels(store, run)
    assert str(caught.value) == f"{store.path}: text 'a': gold 'sideways' is not a label of run 1; it has up, down"


def test_more_neighbours_than_texts_are_refused_before_the_backbone_is_read(minilm, stored):
    with pytest.raises(UserError) as caught:
        derive(*stored({"a": in_turn((0.3, 0.1)), "b": in_turn((0.3, 0.1))}), DeriveConfig(smooth=2))
    assert str(caught.value) == "smooth is 2 neighbours, and the run has 2 texts; ask for at most 1"


def test_smoothing_with_the_real_backbone_mixes_in_texts_that_say_the_same(stored):
    table = {i: [(0, (0.8, 0.2))] for i in "abc"} | {i: [(0, (0.2, 0.8))] for i in "xyz"} | {"q": [(0, (0.4, 0.6))]}
    said = {
        "a": "I bought the stock", "b": "I bought more of this stock", "c": "Buying the stock again today", "q": "I bought this stock",
        "x": "A recipe for lentil soup", "y": "Soup with lentils and onions", "z": "How to cook lentils",
    }  # fmt: skip
    store, run = stored(table, texts=said, mode="cot")
    plain, smooth = ({row.id: row for row in soft_labels(store, run, DeriveConfig(smooth=k))} for k in (0, 2))
    assert plain["q"].probs["up"] < 0.5 < smooth["q"].probs["up"]
    assert smooth["x"].probs["up"] == pytest.approx(plain["x"].probs["up"], abs=0.05)  # no more than being made surer again
    assert smooth["q"].votes == plain["q"].votes
    assert smooth["q"].method == "calibrated+smooth2"


UNEVEN_PRIOR = (
    "each prompt's preference for single labels is estimated on the 100 texts of this run and removed until the labels' shares are "
)


def told(stored, share, config=DEFAULTS, mass=0.9, n_thin=0, **settings):
    """The warnings about 100 texts of which that share is voted up; the first few have hardly any label mass."""
    table = {}
    for i in range(100):
        probs = np.array([0.8, 0.2] if i < 100 * share else [0.2, 0.8])
        table[f"{i:03d}"] = [(0, tuple(probs * (0.04 if i < n_thin else mass)))]
    store, run = stored(table, **settings)
    return label_warnings(read_paths(store, run), run.settings, config)


def test_an_even_prior_is_named_and_how_to_state_another(stored):
    assert told(stored, 0.5) == [UNEVEN_PRIOR + "even; state known shares with --prior"]


def test_a_stated_prior_is_named(stored):
    assert told(stored, 0.5, DeriveConfig(prior={"up": 0.4, "down": 0.6})) == [UNEVEN_PRIOR + "the stated ones"]


@pytest.mark.parametrize("method", ["votes", "mean"])
def test_methods_without_calibration_need_no_prior(stored, method):
    assert told(stored, 0.5, DeriveConfig(method=method)) == []


def test_label_words_that_do_not_fit_are_named(stored):
    line = "in 21% of the paths the label words have a total probability below 0.05: the words do not suit the teacher; choose others in task.toml (now: up, down)"
    assert told(stored, 0.5, DeriveConfig(method="mean"), n_thin=21) == [line]


def test_where_no_path_can_be_read_the_file_may_be_damaged(stored):
    (line,) = told(stored, 0.5, DeriveConfig(method="mean"), n_thin=100)
    assert "in 100% of the paths" in line and "do not suit the teacher, or its file is damaged; choose others" in line


def test_a_fifth_of_unreadable_paths_is_still_let_pass(stored):
    assert told(stored, 0.5, DeriveConfig(method="mean"), n_thin=20) == []


@pytest.mark.parametrize(("share", "found"), [(0.95, "up 95%"), (0.99, "up 99%, down 1%"), (0.01, "up 1%, down 99%")])
def test_a_biased_teacher_is_named(stored, share, found):
    line = f"the teacher is biased (shares of its own votes: {found}); do not use the methods votes and mean"
    assert told(stored, share, DeriveConfig(method="votes")) == [line]


def test_with_many_labels_a_rare_one_is_no_bias(stored):
    names = [f"l{i}" for i in range(70)]
    table = {f"{i:04d}": [(0, tuple(softmax(5 * np.eye(70)[i % 70])))] for i in range(700)}
    store, run = stored(table, labels=names)
    assert label_warnings(read_paths(store, run), run.settings, DeriveConfig(method="votes")) == []


def test_many_texts_are_refined_by_what_the_others_say_and_the_method_says_so(stored, minilm):
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 2, 240)
    nouns = [["share", "bond", "dividend", "broker"], ["soup", "salad", "bread", "cake"]]
    said = {str(i): f"number {i}: a {rng.choice(nouns[g])} and another {rng.choice(nouns[g])}" for i, g in enumerate(gold)}
    right = rng.random(240) < 0.7
    table = {str(i): [(0, (0.7, 0.3) if (g == 0) == r else (0.3, 0.7))] for i, (g, r) in enumerate(zip(gold, right, strict=True))}
    store, run = stored(table, texts=said, mode="cot")
    ids = list(table)
    plain, better = (soft_labels(store, run, DeriveConfig(refine=refine), ids) for refine in ("off", "auto"))
    assert {row.method for row in plain} == {"calibrated"}
    assert {row.method for row in better} == {"calibrated+refined"}
    assert [row.votes for row in plain] == [row.votes for row in better]
    scores = [(np.array([row.probs["up"] < 0.5 for row in rows]) == gold).mean() for rows in (plain, better)]
    assert scores[1] > 0.9 > scores[0]


NOUNS = [["share", "bond", "dividend", "broker"], ["soup", "salad", "bread", "cake"]]


def misled(n=300, n_gold=60, right=0.5):
    """Paths, texts and gold labels of a teacher that goes by the topic, where only so many labels do; all a little unsure."""
    rng = np.random.default_rng(0)
    topic = rng.integers(0, 2, n)
    gold = np.where(rng.random(n) < right, topic, 1 - topic)
    said = {f"{i:03d}": f"number {i}: a {rng.choice(NOUNS[t])} and another {rng.choice(NOUNS[t])}" for i, t in enumerate(topic)}
    table = {key: [(0, (0.65, 0.35) if t == 0 else (0.35, 0.65))] for key, t in zip(said, topic, strict=True)}
    return table, {key: ["up", "down"][g] for key, g in list(zip(said, gold.tolist(), strict=True))[:n_gold]}, said


def test_where_gold_says_that_refined_labels_are_worse_auto_leaves_them_as_they_were(stored, minilm):
    table, gold, said = misled()
    store, run = stored(table, gold, said, mode="cot")
    plain = soft_labels(store, run, DeriveConfig(refine="off"))
    found = derive(store, run, DeriveConfig())
    assert found.rows == plain and {row.method for row in plain} == {"calibrated"}
    (note,) = (line for line in found.warnings if "other texts" in line)
    worse, better = (np.mean([brier(row) for row in rows if row.gold]) for rows in (refined_rows(store, run), plain))
    assert worse > better + 0.1
    assert note == (
        "labels are not refined by what other texts say: 60 texts with gold became clearly worse by it "
        f"(mean squared error {worse:.3f} instead of {better:.3f}); --refine on refines all the same"
    )


def refined_rows(store, run):
    return soft_labels(store, run, DeriveConfig(refine="on"))


def brier(row):
    return sum((prob - (name == row.gold)) ** 2 for name, prob in row.probs.items())


@pytest.mark.parametrize("config", [DeriveConfig(refine_gold=61), DeriveConfig(refine_gold=0), DeriveConfig(refine="on")])
def test_gold_has_no_say_where_there_is_too_little_or_it_is_not_asked(stored, minilm, config):
    table, gold, said = misled()
    store, run = stored(table, gold, said, mode="cot")
    found = derive(store, run, config)
    assert {row.method for row in found.rows} == {"calibrated+refined"}
    assert found.rows == refined_rows(store, run) and not any("gold" in line for line in found.warnings)


def test_where_gold_does_not_speak_against_it_labels_are_refined_and_that_is_said(stored, minilm):
    table, gold, said = misled(right=0.95)
    store, run = stored(table, gold, said, mode="cot")
    found = derive(store, run, DeriveConfig())
    assert found.rows == refined_rows(store, run)
    (note,) = (line for line in found.warnings if "other texts" in line)
    assert note.startswith("what all other texts say is a prior for each; the labels' shares, estimated with it: ")
    assert note.endswith("; 60 texts with gold do not speak against it")


def test_an_affine_map_is_compared_with_an_affine_map(stored, minilm):
    table, gold, said = misled(right=0.8)
    store, run = stored(table, gold, said, mode="cot")
    found = derive(store, run, DeriveConfig(method="affine"))
    assert {row.method for row in found.rows} == {"affine+refined"}
    np.testing.assert_allclose(
        probs_of(found.rows), probs_of(soft_labels(store, run, DeriveConfig(method="affine", refine="on"))), atol=1e-12
    )
