"""Golden tasks have the shape that Label Studio 1.23 exports as JSON, shortened in no key that is read."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.contract.errors import FormatError
from potstill.contract.interchange.annotation import AnnotationGuide
from potstill.contract.interchange.label_studio import config, tasks
from potstill.contract.soft_label import SoftLabel
from potstill.contract.texts import Text, read_texts, text_id


def annotation(*labels: str, control: str = "label", **changes: object) -> dict:
    result = [
        {
            "value": {"choices": list(labels)},
            "id": "x1",
            "from_name": control,
            "to_name": "text",
            "type": "choices",
            "origin": "manual",
        }
    ]
    rest = {
        "created_at": "2025-03-09T22:16:08Z", "updated_at": "2025-03-09T22:16:08Z", "draft_created_at": None, "lead_time": 4.3,
        "prediction": {}, "result_count": 1, "unique_id": "u", "last_action": None, "task": 1, "project": 2, "updated_by": 1,
    }  # fmt: skip
    return {"id": 11, "completed_by": 1, "result": result, "was_cancelled": False, "ground_truth": False} | rest | changes


def task(data: dict, *annotations: dict, **changes: object) -> dict:
    rest = {
        "file_upload": "f.json", "drafts": [], "meta": {}, "created_at": "2025-03-09T21:52:49Z", "inner_id": 1, "project": 2,
        "total_annotations": len(annotations), "cancelled_annotations": 0, "total_predictions": 0, "comment_count": 0,
    }  # fmt: skip
    return {"id": 1, "annotations": list(annotations), "predictions": [], "data": data} | rest | changes


def written(folder: Path, rows: object, name: str = "t.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(rows))
    return path


def soft_label(text: str, up: float = 0.75, **changes: object) -> SoftLabel:
    row = {
        "id": "a", "text": text, "probs": {"up": up, "down": 1 - up}, "votes": {"up": 6, "down": 2}, "agreement": 0.75, "n_paths": 8,
        "entropy": 0.5, "label_mass": 0.9, "method": "mean", "teacher_digest": "d", "task_digest": "e",
    }  # fmt: skip
    return SoftLabel(**{**row, **changes})


def test_gold_is_what_people_submitted(tmp_path):
    rows = [
        task({"id": "a", "text": "one", "target": "ACME", "source": "x"}, annotation("up")),
        task({"id": 7, "text": "two"}, annotation("down"), annotation("up"), annotation("down")),
        task({"text": "three"}, annotation("up", was_cancelled=True), annotation("down")),
        task({"text": "four"}, annotation("up"), annotation("down", ground_truth=True), annotation("up")),
    ]
    read = read_texts(written(tmp_path, rows), gold=True)
    assert read.texts == [
        Text("one", "a", "ACME", "up"),
        Text("two", "7", None, "down"),
        Text("three", text_id("three", None), None, "down"),
        Text("four", text_id("four", None), None, "down"),
    ]
    assert read.skipped_line() == "of 4 texts, 1 with annotators who disagreed (the label of most counts)"


def test_tasks_without_gold_are_counted_by_reason_and_are_plain_texts_elsewhere(tmp_path):
    suggested = [{"model_version": "m", "score": 0.9, "result": annotation("up")["result"]}]
    rows = [
        task({"text": "done"}, annotation("up")),
        task({"text": "open"}, predictions=suggested, drafts=[annotation("up")]),
        task({"text": "open too"}, annotation("up", result=[])),
        task({"text": "cancelled"}, annotation("up", was_cancelled=True)),
        task({"text": "tied"}, annotation("up"), annotation("down")),
        task({"text": "both"}, annotation("up", "down")),
    ]
    path = written(tmp_path, rows)
    read = read_texts(path, labels=["up", "down"], gold=True)
    assert [text.text for text in read.texts] == ["done"]
    reasons = "2 not annotated, 1 set aside, 1 tied between annotators, 1 with several labels at once"
    assert read.skipped_line() == f"skipped 5 of 6 rows: {reasons}"
    plain = read_texts(path)
    assert [(text.text, text.gold) for text in plain.texts] == [
        ("done", "up"), ("open", None), ("open too", None), ("cancelled", None), ("tied", None), ("both", None),
    ]  # fmt: skip
    assert plain.skipped_line() == "of 6 texts, 1 with as many annotators for one label as for another (no label counts)"


def test_the_only_string_is_the_text_and_the_only_control_the_question(tmp_path):
    read = read_texts(written(tmp_path, [task({"body": "one", "stars": 3}, annotation("up", control="sentiment"))]))
    assert [(text.text, text.gold) for text in read.texts] == [("one", "up")]


def test_the_control_called_label_is_the_question_among_several(tmp_path):
    both = annotation("up")
    both["result"] += annotation("spam", control="other")["result"] + [{"type": "relation", "from_id": "a", "to_id": "b"}]
    assert read_texts(written(tmp_path, [task({"text": "one"}, both)])).texts[0].gold == "up"


def test_json_lines_of_tasks_are_read_too(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(task({"text": text}, annotation("up"))) + "\n" for text in ("one", "two")))
    assert [text.gold for text in read_texts(path, gold=True).texts] == ["up", "up"]


NEITHER = (
    "is neither Label Studio's export JSON (a list of tasks with 'data') nor Argilla's records (a list with 'fields'); "
    "write texts of your own as .jsonl, and export from Label Studio as JSON, not JSON-MIN"
)
BROKEN = [
    ({}, NEITHER),
    ([], NEITHER),
    ([{"text": "one", "label": "up", "annotator": 1}], NEITHER),  # JSON-MIN
    ([task({"text": "one"}), 3], "[1]: expected `object`, got `int`"),
    ([task({"text": "one"}), {"id": 2}], "[1]: object missing required field `data`"),
    ([task({"text": "one"}, {"result": {}})], "[0]: annotations[0].result: expected `array | null`, got `object`"),
    (
        [task({"title": "a", "body": "b"})],
        "[0]: data: has no field 'text', and no other field is clearly the text; found: title, body",
    ),
    ([task({})], "[0]: data: has no field 'text', and no other field is clearly the text; found: nothing"),
    ([task({"text": "a", "id": [1]})], "[0]: data: 'id' and 'target' must be text; correct or remove them"),
    ([task({"text": "a"}, annotation("flat"))], "[0]: gold: 'flat' is not a label; allowed: up, down"),
    (
        [task({"text": "a"}, annotation("up", control="mood")), task({"text": "b"}, annotation("up", control="tone"))],
        "annotations: use several controls (mood, tone); name the one with the gold label 'label'",
    ),
    (
        [task({"text": "a"}, annotation("up", result=[{"type": "choices", "from_name": "label", "value": {}}]))],
        "[0]: annotations: a choice of 'label' has no list of labels (value.choices)",
    ),
    ([task({"text": " "})], "has no usable text (1 empty); each row needs a text"),
    (
        [task({"text": "a", "id": "1"}), task({"text": "b", "id": "1"})],
        "[1]: id '1' already belongs to another text; ids must be unique",
    ),
]


@pytest.mark.parametrize(("rows", "problem"), BROKEN)
def test_a_broken_file_is_refused_with_place_and_problem(tmp_path, rows, problem):
    path = written(tmp_path, rows)
    with pytest.raises(FormatError) as caught:
        read_texts(path, labels=["up", "down"])
    assert str(caught.value) == f"{path}: {problem}"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "not valid JSON: Input data was truncated"),
        (b'[{"data": {"text": "a"}}', "not valid JSON: Input data was truncated"),
        (b'[{"data":\n {"text": "\xff"}}]', "line 2: byte 0xff is not UTF-8; save the file as UTF-8"),
    ],
)
def test_a_file_that_is_no_json_is_refused(tmp_path, data, problem):
    path = tmp_path / "t.json"
    path.write_bytes(data)
    with pytest.raises(FormatError) as caught:
        read_texts(path)
    assert str(caught.value) == f"{path}: {problem}"


def test_half_a_surrogate_pair_is_read_as_an_unreadable_character(tmp_path):
    path = tmp_path / "t.json"
    path.write_text('[{"data": {"text": "a\\ud800"}}]')
    assert read_texts(path).texts[0].text == "a\ufffd"


def test_a_project_that_nobody_worked_on_has_no_gold(tmp_path):
    path = written(tmp_path, [task({"text": "a"}), task({"text": "b"})])
    with pytest.raises(FormatError) as caught:
        read_texts(path, gold=True)
    assert (
        str(caught.value) == f"{path}: has no text with a gold label (rows: 2 not annotated); annotate some, or leave the file out"
    )


def test_a_task_carries_the_most_probable_label_its_probability_and_who_said_so():
    (row,) = json.loads(tasks([soft_label("one", 0.25, target="ACME")], "teacher mean"))
    assert row["data"] == {"id": "a", "text": "one", "target": "ACME"}
    assert row["meta"] == {"probs": {"up": 0.25, "down": 0.75}, "agreement": 0.75, "entropy": 0.5}
    value = {"choices": ["down"]}
    result = {"id": "suggestion-1", "from_name": "label", "to_name": "text", "type": "choices", "value": value}
    assert row["predictions"] == [{"model_version": "teacher mean", "score": 0.75, "result": [result]}]


ODD = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(str.strip)


@given(st.lists(st.tuples(ODD, st.none() | ODD, st.sampled_from(["up", "down"])), min_size=1, unique_by=lambda row: row[:2]))
def test_texts_come_back_from_the_tool_with_what_people_chose(tmp_path_factory, triples):
    rows = [soft_label(text, id=str(i), target=target) for i, (text, target, _) in enumerate(triples)]
    exported = json.loads(tasks(rows, "m"))
    for row, (_, _, label) in zip(exported, triples, strict=True):  # a person opens each and submits a choice
        result = [{**row["predictions"][0]["result"][0], "value": {"choices": [label]}}]
        row["annotations"] = [{"id": 1, "completed_by": 1, "result": result, "was_cancelled": False}]
    read = read_texts(written(tmp_path_factory.mktemp("t"), exported), gold=True)
    assert read.texts == [Text(text, str(i), target, label) for i, (text, target, label) in enumerate(triples)]


def test_the_configuration_names_what_the_tasks_refer_to():
    guide = AnnotationGuide({"up": 'rises, "soon"', "d&w<n": ""}, "Will $ACME rise?", target=True)
    view = ET.fromstring(config(guide))
    assert [element.tag for element in view] == ["Header", "Header", "Text", "Choices"]
    assert [header.attrib["value"] for header in view.findall("Header")] == ["Will ＄ACME rise?", "$target"]
    assert view.find("Text").attrib == {"name": "text", "value": "$text"}
    assert view.find("Choices").attrib == {
        "name": "label",
        "toName": "text",
        "choice": "single",
        "required": "true",
        "showInline": "true",
    }
    assert [choice.attrib for choice in view.iter("Choice")] == [{"value": "up", "hint": 'rises, "soon"'}, {"value": "d&w<n"}]
    assert "$target" not in config(AnnotationGuide({"up": ""}))
