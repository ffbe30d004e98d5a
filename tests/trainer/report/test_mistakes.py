import tomllib
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import fisher_exact
from support.sample_texts import DOWN, UP, a_soft_label, a_task, a_text, answered_texts

from potstill.contract.task import Knowledge, load_task
from potstill.trainer.report.answers import Rationale, match_soft_labels, most_confident_mistakes
from potstill.trainer.report.terms import MAX_FDR, MistakeTerm, as_knowledge, fisher_p_values, mistake_terms

SURE = [0.02, 0.02, 0.96]


def test_the_most_confident_mistake_comes_first_and_right_answers_do_not_come():
    answered = answered_texts([("a", "up", UP), ("b", "up", DOWN), ("c", "up", SURE), ("d", "flat", DOWN)])
    found = most_confident_mistakes(answered, {})
    assert found[0].text.text == "c"
    assert {mistake.text.text for mistake in found} == {"b", "c", "d"}
    assert [m.text.id for m in found[1:]] == sorted(m.text.id for m in found[1:])  # equals by id
    assert (found[0].gold, found[0].answer) == ("up", "down")
    assert (found[0].confidence, found[0].gold_prob) == (pytest.approx(0.96), pytest.approx(0.02))
    assert most_confident_mistakes(answered, {}, 1) == found[:1]


def test_rationales_stand_beside_their_text_and_target():
    said = [Rationale("down", "they fired the auditor")]
    answered = answered_texts([("b", "up", DOWN), (a_text("b", target="acme"), "up", DOWN)])
    found = {mistake.text.target: mistake.rationales for mistake in most_confident_mistakes(answered, {("b", "acme"): said})}
    assert found == {None: (), "acme": tuple(said)}


@pytest.mark.parametrize(
    ("votes", "verdict"),
    [
        ([8, 0, 0], "the teacher was right"),
        ([0, 0, 8], "the teacher made the same mistake"),
        ([0, 8, 0], "the teacher was wrong in another way"),
        ([0, 0, 0], ""),
    ],
)
def test_a_mistake_says_whether_the_teacher_made_it_too(votes, verdict):
    assert (
        most_confident_mistakes(answered_texts([("b", "up", DOWN)], [a_soft_label("b", votes)]), {})[0].teacher_verdict == verdict
    )


def test_soft_labels_are_found_by_text_and_target_whatever_the_id():
    row, other = a_soft_label("a", [8, 0, 0]), a_soft_label("a", [0, 8, 0], target="acme")
    texts = [a_text("a", target="acme"), a_text("a"), a_text("b")]
    assert match_soft_labels(texts, [row, other]) == [other, row, None]


# --- terms


@pytest.mark.parametrize("row", [(4, 4), (10, 7), (30, 10), (50, 50)])
def test_a_level_is_that_of_scipys_exact_test(row):
    n, wrong = row
    table = [[wrong, n - wrong], [60 - wrong, 200 - 60 - (n - wrong)]]
    assert fisher_p_values(np.array([row]), 200, 60)[0] == pytest.approx(fisher_exact(table, alternative="greater").pvalue)


def theta_fails(n=40):
    """Texts of which those with theta, and few others, are answered wrong; every text has a word of its own."""
    rows = []
    for i in range(n * 4):
        theta = i % 8 == 0
        rows.append(
            (
                f"word{i} {'theta' if theta else 'other' if i % 8 == 1 else 'puts'} end{i}",
                "up",
                DOWN if theta or i % 16 == 1 else UP,
            )
        )
    return answered_texts(rows)


def test_a_term_that_goes_with_mistakes_is_found_and_what_the_task_explains_is_not():
    found = mistake_terms(theta_fails())
    assert found[0].term == "theta" and found[0].stands_out
    assert (found[0].n, found[0].n_wrong, found[0].mixup) == (20, 20, "up taken for down")
    assert [term.p for term in found] == sorted(term.p for term in found)
    explained = replace(theta_fails(), task=a_task(knowledge=[Knowledge(term="Theta", meaning="daily loss")]))
    assert "theta" not in {term.term for term in mistake_terms(explained)}


def test_without_mistakes_or_without_repeated_terms_there_is_nothing_to_report():
    assert mistake_terms(answered_texts([(f"theta {i}", "up", UP) for i in range(40)])) == []
    assert mistake_terms(answered_texts([("one", "up", DOWN), ("two", "up", UP)])) == []


def test_mistakes_spread_by_chance_stand_out_no_more_often_than_promised():
    alarms = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        rows = [(" ".join(f"w{k}" for k in rng.integers(0, 60, 6)), "up", DOWN if rng.random() < 0.4 else UP) for _ in range(150)]
        alarms += any(term.stands_out for term in mistake_terms(answered_texts(rows)))
    assert alarms <= 2 * MAX_FDR * 40


HOSTILE = ['say "it"', "back\\slash", "new\nline", "🚀", "tab\t", "\x7f", "]]\n[[labels]]"]


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_offered_is_toml_whatever_the_term(name):
    text = as_knowledge([MistakeTerm(name, 4, 4, 0.001, 0.01, f"{name} taken for x")])
    assert tomllib.loads(text) == {"knowledge": [{"term": name, "meaning": ""}]}


def test_an_entry_that_is_pasted_and_left_empty_is_refused_and_once_written_out_it_loads(repository, tmp_path):
    task = (repository / "examples" / "support_tickets" / "task.toml").read_text()
    entry = as_knowledge([MistakeTerm("theta", 4, 4, 0.001, 0.01, "up taken for down")])
    path = tmp_path / "task.toml"
    path.write_text(f"{task}\n{entry}")
    with pytest.raises(Exception, match=r"knowledge\[\d+\]: term and meaning must not be empty"):
        load_task(path)
    path.write_text(f"{task}\n{entry}".replace('meaning = ""', 'meaning = "what an option loses each day"'))
    assert load_task(path).knowledge[-1].term == "theta"


def test_a_term_that_chance_explains_is_not_offered():
    assert as_knowledge([MistakeTerm("the", 4, 3, 0.3, 0.9, "up taken for down")]) == ""
