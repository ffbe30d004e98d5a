"""The prompt says what the task says, in the order that the variant says."""

from collections import Counter
from pathlib import Path

import msgspec
import pytest

from potstill.contract.task import Knowledge, Label, Task, load_task
from potstill.labeler.prompts import plain

TASK = load_task(Path(__file__).parents[3] / "examples" / "market_stance" / "task.toml")


def test_the_first_selection_is_the_task_s_own_examples_in_their_own_order():
    assert plain.example_selections(TASK, 3, 2, seed=0)[0].examples == tuple(TASK.examples)


def test_every_selection_has_the_same_number_of_examples_of_each_label():
    for selection in plain.example_selections(TASK, 8, 1, seed=0):
        assert Counter(example.label for example in selection.examples) == dict.fromkeys(TASK.label_names, 1)


def test_selections_differ_and_their_last_label_goes_round():
    made = plain.example_selections(TASK, 7, 2, seed=0)
    assert len({selection.examples for selection in made}) == 7
    assert Counter(selection.examples[-1].label for selection in made[1:]) == dict.fromkeys(TASK.label_names, 2)


def test_equal_seeds_give_equal_selections_and_other_seeds_others():
    assert plain.example_selections(TASK, 4, 2, seed=1) == plain.example_selections(TASK, 4, 2, seed=1)
    assert plain.example_selections(TASK, 4, 2, seed=1) != plain.example_selections(TASK, 4, 2, seed=2)


def test_asking_for_more_selections_keeps_the_earlier_ones():
    assert plain.example_selections(TASK, 8, 2, seed=0)[:4] == plain.example_selections(TASK, 4, 2, seed=0)


def test_in_cot_the_opinion_comes_before_the_answer():
    text = plain.prefix(TASK, plain.example_selections(TASK, 1, 2, 0)[0], "cot")
    assert text.count("\nOpinion: ") == text.count("\nSentiment: ") == 6
    assert text.index("Opinion:") < text.index("Sentiment:")


def test_in_direct_no_rationale_is_shown():
    text = plain.prefix(TASK, plain.example_selections(TASK, 1, 2, 0)[0], "direct")
    assert "Opinion:" not in text
    assert TASK.examples[0].rationale not in text


def test_the_prefix_and_a_block_join_to_one_document():
    whole = plain.prefix(TASK, plain.example_selections(TASK, 1, 2, 0)[0], "direct") + plain.block(TASK, "hm", None, "direct")
    assert whole.endswith("\n\nPost: hm\nSentiment:")


@pytest.mark.parametrize(("text", "terms"), [("I bought PUTS", ["puts"]), ("inputs rose", []), ("calls, puts", ["puts", "calls"])])
def test_a_term_is_explained_only_where_it_stands_as_a_whole_word(text, terms):
    assert [entry.term for entry in plain.knowledge_in(TASK, text)] == terms


def test_a_term_with_signs_in_it_is_taken_literally():
    task = msgspec.structs.replace(TASK, knowledge=[Knowledge(term="c++ (2)", meaning="a language")])
    assert plain.knowledge_in(task, "learn c++ (2) now")


def test_a_line_break_in_a_text_cannot_end_it_early():
    assert plain.block(TASK, "one\n\nPost: two", None, "direct").startswith("Post: one Post: two\n")


def test_a_long_text_is_shown_up_to_max_chars():
    assert plain.visible_text(TASK, "a" * 10_000) == "a" * TASK.input.max_chars


def test_a_target_is_named_before_the_text():
    task: Task = msgspec.structs.replace(TASK, input=msgspec.structs.replace(TASK.input, target=True, target_noun="Company"))
    assert plain.block(task, "up it goes", "Acme", "cot") == "Company: Acme\nPost: up it goes\nOpinion:"


def without_examples(n_labels: int) -> Task:
    return msgspec.structs.replace(TASK, examples=[], labels=[Label(name=f"l{i}") for i in range(n_labels)])


@pytest.mark.parametrize("n_labels", [2, 3, 5])
def test_without_examples_every_label_stands_at_every_place_equally_often(n_labels):
    task = without_examples(n_labels)
    n_orders = n_labels if n_labels == 2 else 2 * n_labels
    made = [plain.prefix(task, selection, "direct") for selection in plain.example_selections(task, 2 * n_orders, 2, 0)]
    assert len(set(made)) == 2 * n_orders
    orders = [[line[2:] for line in text.splitlines() if line.startswith("- ")] for text in made[:n_orders]]
    assert Counter(order[0] for order in orders) == dict.fromkeys(task.label_names, n_orders // n_labels)
    assert orders[0] == task.label_names and all(sorted(order) == task.label_names for order in orders)


def test_with_examples_the_answers_keep_the_order_of_the_task():
    made = [plain.prefix(TASK, selection, "direct") for selection in plain.example_selections(TASK, 8, 2, 0)]
    assert {text.partition("\n\nPost: ")[0].partition("\n\nNote: ")[0] for text in made} == {plain.head(TASK)}


def test_an_example_without_a_rationale_is_left_out_where_the_teacher_reasons():
    bare = [msgspec.structs.replace(example, rationale="") if i else example for i, example in enumerate(TASK.examples)]
    (selection,) = plain.example_selections(msgspec.structs.replace(TASK, examples=bare), 1, 2, 0)
    assert len(selection.examples) == len(bare)
    assert plain.with_rationales(selection).examples == (bare[0],)


def test_a_label_without_an_example_ends_no_prompt():
    some = msgspec.structs.replace(TASK, examples=[e for e in TASK.examples if e.label != "neutral"])
    made = plain.example_selections(some, 7, 2, seed=0)
    assert {e.label for selection in made for e in selection.examples} == {"bullish", "bearish"}
    assert all(len(selection.examples) == 4 for selection in made)
