import tomllib
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import fisher_exact
from support.judged_texts import DOWN, UP, a_judged, a_task

from potstill.contract.task import Knowledge, load_task
from potstill.trainer.report.terms import ALARM, Term, as_knowledge, chance_levels, error_terms, terms_in


def test_words_pairs_and_symbols_are_terms_but_single_letters_and_commas_are_not():
    assert terms_in("I BTFD, theta gang 🚀") == {"btfd", "theta", "gang", "🚀", "btfd theta", "theta gang", "gang 🚀"}
    assert {"$gme", "short-squeeze", "don't"} <= terms_in("$GME short-squeeze don't")


def test_scripts_without_spaces_are_read_in_pairs_of_characters():
    assert {"酒店", "店很", "很好"} <= terms_in("酒店很好")


@pytest.mark.parametrize("row", [(4, 4), (10, 7), (30, 10), (50, 50)])
def test_a_level_is_that_of_scipys_exact_test(row):
    n, wrong = row
    table = [[wrong, n - wrong], [60 - wrong, 200 - 60 - (n - wrong)]]
    assert chance_levels(np.array([row]), 200, 60)[0] == pytest.approx(fisher_exact(table, alternative="greater").pvalue)


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
    return a_judged(rows)


def test_a_term_that_goes_with_mistakes_is_found_and_what_the_task_explains_is_not():
    found = error_terms(theta_fails())
    assert found[0].term == "theta" and found[0].stands_out
    assert (found[0].n, found[0].n_wrong, found[0].mixup) == (20, 20, "up taken for down")
    assert [term.p for term in found] == sorted(term.p for term in found)
    explained = replace(theta_fails(), task=a_task(knowledge=[Knowledge(term="Theta", meaning="daily loss")]))
    assert "theta" not in {term.term for term in error_terms(explained)}


def test_without_mistakes_or_without_repeated_terms_there_is_nothing_to_tell():
    assert error_terms(a_judged([(f"theta {i}", "up", UP) for i in range(40)])) == []
    assert error_terms(a_judged([("one", "up", DOWN), ("two", "up", UP)])) == []


def test_mistakes_spread_by_chance_raise_no_alarm_more_often_than_promised():
    alarms = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        rows = [(" ".join(f"w{k}" for k in rng.integers(0, 60, 6)), "up", DOWN if rng.random() < 0.4 else UP) for _ in range(150)]
        alarms += any(term.stands_out for term in error_terms(a_judged(rows)))
    assert alarms <= 2 * ALARM * 40


HOSTILE = ['say "it"', "back\\slash", "new\nline", "🚀", "tab\t", "\x7f", "]]\n[[labels]]"]


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_offered_is_toml_whatever_the_term(name):
    text = as_knowledge([Term(name, 4, 4, 0.001, 0.01, f"{name} taken for x")])
    assert tomllib.loads(text) == {"knowledge": [{"term": name, "meaning": ""}]}


def test_an_entry_that_is_pasted_and_left_empty_is_refused_and_once_written_out_it_loads(repository, tmp_path):
    task = (repository / "examples" / "support_tickets" / "task.toml").read_text()
    entry = as_knowledge([Term("theta", 4, 4, 0.001, 0.01, "up taken for down")])
    path = tmp_path / "task.toml"
    path.write_text(f"{task}\n{entry}")
    with pytest.raises(Exception, match=r"knowledge\[\d+\]: term and meaning must both be written out"):
        load_task(path)
    path.write_text(f"{task}\n{entry}".replace('meaning = ""', 'meaning = "what an option loses each day"'))
    assert load_task(path).knowledge[-1].term == "theta"


def test_a_term_that_chance_explains_is_not_offered():
    assert as_knowledge([Term("the", 4, 3, 0.3, 0.9, "up taken for down")]) == ""
