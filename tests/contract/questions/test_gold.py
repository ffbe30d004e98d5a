import json
from pathlib import Path

import pytest
from support.toy_questions import a_questionnaire

from potstill.contract.errors import FormatError
from potstill.contract.questions.gold import parse_gold
from potstill.contract.texts import read_texts

QUESTIONS = a_questionnaire().questions
FILE = Path("gold.jsonl")


def parsed(answers):
    return parse_gold(FILE, "text 'a'", QUESTIONS, json.dumps(answers))


def test_answers_are_lists_of_labels_in_output_order():
    found = parsed({"topics": ["people", "news"], "move": "up", "asks": True, "sure": "low"})
    assert found == {"move": ["up"], "asks": ["yes"], "topics": ["news", "people"], "sure": ["low"]}


def test_no_tag_is_an_answer_and_null_is_none():
    assert parsed({"topics": [], "move": None}) == {"topics": []}
    assert parse_gold(FILE, "", QUESTIONS, None) == {}


def test_a_task_of_one_question_takes_the_bare_answer():
    assert parse_gold(FILE, "", QUESTIONS[1:2], "No") == {"asks": ["no"]}
    with pytest.raises(FormatError, match="must be an object with an answer for each question"):
        parse_gold(FILE, "text 'a'", QUESTIONS, "up")


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        ({"mood": "up"}, "text 'a': gold.mood: is not a question"),
        ({"move": "sideways"}, "text 'a': gold.move: 'sideways' is not an answer to move; allowed: up, flat, down"),
        ({"move": ["up"]}, "gold.move: ['up'] is not an answer to move"),
        ({"topics": ["news", "weather"]}, "gold.topics: 'weather' is not a tag of topics"),
        ({"topics": True}, "gold.topics: is True; tags are a list of names"),
        ({"sure": 1.5}, "gold.sure: is 1.5; it must be a name"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused(answers, problem):
    with pytest.raises(FormatError) as caught:
        parsed(answers)
    assert problem in str(caught.value)


def test_gold_is_read_from_objects_and_from_a_column_for_each_question(tmp_path):
    lines, table = tmp_path / "gold.jsonl", tmp_path / "gold.csv"
    lines.write_text('{"text": "a", "gold": {"move": "up", "topics": ["news", "chart"], "asks": true}}\n{"text": "b"}\n')
    table.write_text("text,gold.move,gold.topics,gold.asks\na,up,news; chart,yes\nb,,,\n")
    want = {"move": ["up"], "asks": ["yes"], "topics": ["news", "chart"]}
    for path in (lines, table):
        first, second = read_texts(path).texts
        assert parse_gold(path, "", QUESTIONS, first.gold) == want and second.gold is None


def test_a_table_has_one_form_of_gold(tmp_path):
    table = tmp_path / "gold.csv"
    table.write_text("text,gold,gold.move\na,up,up\n")
    with pytest.raises(FormatError, match="unknown column 'gold.move'"):
        read_texts(table)
