import msgspec
import pytest
from support.toy_questions import a_questionnaire

from potstill.contract.errors import FormatError, UserError
from potstill.contract.questions.questionnaire import (
    Questionnaire,
    as_single,
    load_any_task,
    missing_of,
    names_of,
    questionnaire_from_json,
    questionnaire_to_json,
)
from potstill.contract.task import Task, load_task

WHOLE = """
format = 2
name = "posts"
guideline = "Judge the author."

[[questions]]
name = "stance"
question = "Will it rise?"
labels = [{name = "up", words = ["rise"]}, {name = "down"}]

[[questions]]
name = "asks"
kind = "yesno"
question = "Is it a question?"

[[questions]]
name = "topics"
kind = "tags"
question = "Does it mention {tag}?"
guideline = "Only what stands there."
labels = [{name = "options", meaning = "calls and puts"}, {name = "news"}]

[[questions]]
name = "sure"
kind = "degree"
question = "How sure is the author?"
labels = [{name = "1"}, {name = "2"}, {name = "3"}]

[[examples]]
text = "calls on ACME?"
answers = {stance = "up", asks = true, topics = ["options"], sure = 2}
rationales = {stance = "Calls gain when it rises."}

[[examples]]
text = "it fell"
answers = {stance = "down", asks = "no"}
"""
ONE = """
format = 2
name = "posts"
[[questions]]
name = "stance"
question = "Will it rise?"
labels = [{name = "up"}, {name = "down"}]
"""


def written(tmp_path, text):
    path = tmp_path / "task.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_question_is_asked_and_of_tags_each_one(tmp_path):
    task = load_any_task(written(tmp_path, WHOLE))
    asks = {ask.key: ask.task for ask in task.asks()}
    assert list(asks) == ["stance", "asks", "topics/options", "topics/news", "sure"]
    assert asks["topics/options"].question == "Does it mention options (calls and puts)?"
    assert asks["topics/options"].guideline == "Judge the author.\nOnly what stands there."
    assert [ask.label_names for ask in asks.values()] == [
        ["up", "down"],
        ["yes", "no"],
        ["yes", "no"],
        ["yes", "no"],
        ["1", "2", "3"],
    ]
    assert asks["stance"].labels[0].spellings == ["rise"]


def test_an_example_stands_only_with_the_questions_that_it_answers(tmp_path):
    asks = {ask.key: ask.task for ask in load_any_task(written(tmp_path, WHOLE)).asks()}
    assert [(e.label, e.rationale) for e in asks["stance"].examples] == [("up", "Calls gain when it rises."), ("down", "")]
    assert [e.label for e in asks["asks"].examples] == ["yes", "no"]
    assert [e.label for e in asks["topics/options"].examples] == ["yes"]
    assert [e.label for e in asks["topics/news"].examples] == ["no"]
    assert [e.label for e in asks["sure"].examples] == ["2"]


def test_a_question_without_a_place_for_the_tag_names_it_at_the_end():
    task = a_questionnaire()
    topics = msgspec.structs.replace(task.find("topics"), question="Which are there?")
    assert topics.asked(topics.labels[0]) == "Which are there? Is news one of them?"


def test_a_file_of_one_choice_is_a_task_whatever_its_format(tmp_path):
    two = load_any_task(written(tmp_path, ONE))
    one = 'format = 1\nname = "posts"\nquestion = "Will it rise?"\nlabels = [{name = "up"}, {name = "down"}]\n'
    assert isinstance(two, Task)
    assert two == load_any_task(written(tmp_path, one)) == load_task(tmp_path / "task.toml")


def test_one_question_of_another_kind_stays_a_questionnaire(tmp_path):
    found = load_any_task(written(tmp_path, ONE.replace('labels = [{name = "up"}, {name = "down"}]', 'kind = "yesno"')))
    assert isinstance(found, Questionnaire)


def test_it_survives_the_way_through_a_checkpoint(tmp_path):
    task = load_any_task(written(tmp_path, WHOLE))
    again = questionnaire_from_json(tmp_path / "task.json", questionnaire_to_json(task))
    assert again == task and again.digest == task.digest


def test_a_step_for_one_choice_says_what_it_was_given(tmp_path):
    path = written(tmp_path, WHOLE)
    with pytest.raises(
        UserError, match=r"potstill tune takes a task of one choice, and this one asks stance \(choice\), asks \(yesno\)"
    ):
        as_single(path, "potstill tune")
    with pytest.raises(
        FormatError, match="format: is 2; this version reads 1, and 2 for several questions, which this step does not"
    ):
        load_task(path)


def test_what_is_missing_is_said_of_each_question(tmp_path):
    lines = missing_of(load_any_task(written(tmp_path, WHOLE)))
    assert any(line.startswith("topics/news: no worked example has the label yes") for line in lines)


def test_outputs_are_named_after_question_and_label():
    assert names_of(a_questionnaire().questions)[:4] == ["move/up", "move/flat", "move/down", "asks/yes"]


BROKEN = [
    ("", "object missing required field `format`"),
    ("format = 2\nname = 'x'\nquestions = []\n", "questions: is empty; a task needs at least one"),
    (WHOLE.replace('name = "asks"', 'name = "stance"'), "questions[1].name: repeats 'stance'"),
    (WHOLE.replace('name = "asks"', 'name = "Asks it"'), "questions[1].name: is 'Asks it'; begin with a small letter"),
    (WHOLE.replace('kind = "yesno"', 'kind = "maybe"'), "questions[1].kind: is 'maybe'; allowed: choice, degree, tags, yesno"),
    (WHOLE.replace("Is it a question?", " "), "questions[1].question: is empty"),
    (WHOLE.replace('{name = "down"}', '{name = "up"}'), "questions[0].labels[1].name: repeats 'up'"),
    (WHOLE.replace('{name = "news"}', '{name = "options"}'), "questions[2].labels[1].name: repeats 'options'"),
    (WHOLE.replace('words = ["rise"]', 'words = ["down"]'), "questions[0].labels[1].words: 'down' already stands for 'up'"),
    (WHOLE.replace('{name = "news"}', '{name = "news", words = ["options"]}'), "questions[2].labels[1].words: 'options' already stands"),
    (WHOLE.replace('name = "sure"\n', 'name = "sure"\nvalues = [1, 3, 2]\n'), "questions[3].values: are [1.0, 3.0, 2.0]; they must"),
    (WHOLE.replace('name = "sure"\n', 'name = "sure"\nvalues = [1, 3]\n'), "questions[3].values: has 2 numbers; there are 3 levels"),
    (WHOLE.replace('name = "stance"\n', 'name = "stance"\nvalues = [1, 3]\n'), "questions[0].values: are given for kind choice"),
    (WHOLE.replace("sure = 2", "sure = 5"), "examples[0].answers.sure: 5 is not an answer to sure; allowed: 1, 2, 3"),
    (WHOLE.replace("asks = true", 'asks = "maybe"'), "examples[0].answers.asks: 'maybe' is not an answer to asks; allowed: yes, no"),
    (WHOLE.replace('["options"]', '["opinions"]'), "examples[0].answers.topics: 'opinions' is not a tag of topics"),
    (WHOLE.replace("asks = true", "asked = true"), "examples[0].answers.asked: is not a question"),
    (WHOLE.replace("rationales = {stance", "rationales = {sures"), "examples[0].rationales.sures: explains a question"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "problem"), BROKEN)
def test_a_broken_file_is_refused_with_its_place(tmp_path, text, problem):
    with pytest.raises(FormatError) as caught:
        load_any_task(written(tmp_path, text))
    assert problem in str(caught.value)
