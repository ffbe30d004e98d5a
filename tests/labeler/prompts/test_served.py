"""What servers are asked that take no plain text: turns, and questions with options."""

from collections import Counter

import pytest
from support.teachers.table_teacher import TASK, TEXTS

from potstill.contract.task import Label
from potstill.labeler.config import LabelConfig
from potstill.labeler.prompts import plain, served
from potstill.labeler.prompts.variants import prompt_variants, prompts_digest
from potstill.labeler.teacher import Identity


def task(n_labels=2, guideline=""):
    fields = {name: getattr(TASK, name) for name in TASK.__struct_fields__}
    labels = [Label(f"label {i}", f"meaning {i}") for i in range(n_labels)]
    return type(TASK)(**fields | {"labels": labels, "examples": [], "guideline": guideline})


@pytest.mark.parametrize(
    ("n_labels", "guideline"), [(2, "Read slowly."), (3, "Read slowly."), (3, ""), (5, "Read slowly."), (11, "")]
)
def test_questions_differ_until_all_orders_and_wordings_were_asked_and_use_each_equally_often(n_labels, guideline):
    own = task(n_labels, guideline)
    n_different = n_labels * (4 if guideline else 2)
    asked = [served.question(own, i, guideline=True) for i in range(n_different)]
    assert len(set(asked)) == n_different
    assert set(Counter(question.options[0][0] for question in asked).values()) == {n_different // n_labels}
    if guideline:
        assert sum(question.instructions.startswith(guideline) for question in asked) == n_different // 2


def test_the_first_question_is_the_task_as_it_stands_and_the_second_round_has_the_reverse_order():
    own = task(3, "Read slowly.")
    first = served.question(own, 0, guideline=True)
    assert first.instructions == "Read slowly.\nUp or down?"
    assert first.options == (("label 0", "meaning 0"), ("label 1", "meaning 1"), ("label 2", "meaning 2"))
    assert served.question(own, 12, guideline=True).options == first.options[::-1]
    assert "Read" not in served.question(own, 0, guideline=False).instructions


def test_a_text_is_put_to_a_decision_server_without_a_cue_and_to_a_chat_server_with_it():
    for api, prompt in (("systemone", "Text: text number 0"), ("chat", "Text: text number 0\nAnswer:")):
        (variant,) = prompt_variants(TASK, LabelConfig(mode="direct", n_paths=1), Identity("", "", "", "", api=api))
        assert variant.prompt(TEXTS[0]) == prompt


def test_the_digest_of_the_prompts_tells_turns_questions_and_documents_apart():
    config = LabelConfig(mode="direct", n_paths=2)
    digests = {
        prompts_digest(prompt_variants(TASK, config, Identity("", "", "", "", api=api))) for api in ("", "chat", "systemone")
    }
    assert len(digests) == 3
    same = {
        prompts_digest(prompt_variants(TASK, config, Identity("", "", "", "", api=api))) for api in ("", "completions", "ollama")
    }
    assert len(same) == 1


def test_a_conversation_shows_what_the_plain_prompt_shows():
    selection = plain.example_selections(TASK, 1, 2, 0)[0]
    turns = served.conversation(TASK, selection, "cot", guideline=True)
    said = " ".join(message.content for message in turns)
    assert all(example.text in said and example.rationale in said for example in TASK.examples)
    assert [message.role for message in turns] == ["system", *["user", "assistant"] * 4]
