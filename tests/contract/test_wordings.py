"""A task's other wordings: read, kept through a checkpoint, part of the digest, and refused where they contradict themselves."""

import pytest

from potstill.contract.errors import FormatError
from potstill.contract.task import load_task, task_from_json, task_to_json

TASK = """format = 1
name = "t"
question = "Up or down?"

[[labels]]
name = "up"
words = ["rise", "up"]

[[labels]]
name = "down"
"""
MOOD = """
[[wordings]]
question = "How does the author feel?"
answer = "Mood"
words = { up = ["happy", "hopeful"], down = ["sad"] }
"""


def written(folder, text):
    (folder / "task.toml").write_text(text)
    return folder / "task.toml"


def test_wordings_are_read_and_change_the_digest_since_the_teacher_sees_them(tmp_path):
    plain, worded = load_task(written(tmp_path, TASK)), load_task(written(tmp_path, TASK + MOOD))
    (wording,) = worded.wordings
    assert (wording.question, wording.guideline, wording.answer) == ("How does the author feel?", "", "Mood")
    assert wording.words == {"up": ["happy", "hopeful"], "down": ["sad"]}
    assert worded.digest != plain.digest
    assert task_from_json(tmp_path / "task.json", task_to_json(worded)) == worded
    assert b"wordings" not in task_to_json(plain)  # so that a student of such a task is read by earlier versions


@pytest.mark.parametrize(
    ("wordings", "problem"),
    [
        ("[[wordings]]", "wordings[0]: says nothing; give it a question, a guideline, an answer cue or words, or delete it"),
        (MOOD.replace("down =", "flat ="), "wordings[0].words: 'flat' is not a label; allowed: up, down"),
        (MOOD.replace('["sad"]', "[]"), "wordings[0].words.down: is empty; leave it out, so that the label's own words hold"),
        (MOOD.replace('"sad"', '" sad"'), "wordings[0].words.down: ' sad' is blank or has space around it; write the bare word"),
        (MOOD.replace('"sad"', '"happy"'), "wordings[0].words.down: 'happy' already stands for 'up'; choose another word"),
        (MOOD.replace('"hopeful"', '"happy"'), "wordings[0].words.up: 'happy' already stands for 'up'; choose another word"),
        (MOOD.replace('"sad"', '"rise"'), "wordings[0].words.down: 'rise' already stands for 'up'; choose another word"),
        (
            MOOD + MOOD.replace('up = ["happy", "hopeful"], down = ["sad"]', 'up = ["sad"], down = ["blue"]'),
            "wordings[1].words.up: 'sad' already stands for 'down'; choose another word",
        ),
    ],
)
def test_a_broken_wording_is_refused_with_place_and_problem(tmp_path, wordings, problem):
    path = written(tmp_path, TASK + wordings)
    with pytest.raises(FormatError) as caught:
        load_task(path)
    assert str(caught.value) == f"{path}: {problem}"


def test_a_wording_may_use_words_of_the_label_again(tmp_path):
    worded = load_task(written(tmp_path, TASK + MOOD.replace('"hopeful"', '"rise"')))
    assert worded.wordings[0].words["up"] == ["happy", "rise"]
