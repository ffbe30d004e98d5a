"""Golden records are what argilla 2.8.0 gave for three `rg.Record`s: `to_list()`, which `to_json` dumps, and `to_list(flatten=True)`."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.contract.errors import FormatError
from potstill.contract.interchange.annotation import AnnotationGuide
from potstill.contract.interchange.argilla import records, settings
from potstill.contract.soft_label import SoftLabel
from potstill.contract.texts import Text, read_texts

USER, OTHER = "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"
NESTED = [
    {
        "id": "a", "fields": {"text": "one", "target": "ACME"}, "metadata": {"entropy": 0.5},
        "suggestions": {"label": {"value": "up", "score": 0.7, "agent": "t/mean"}},
        "responses": {"label": [{"value": "up", "user_id": USER}]}, "vectors": {}, "status": "completed", "_server_id": None,
    },
    {
        "id": "b", "fields": {"text": "two"}, "metadata": {}, "suggestions": {},
        "responses": {"label": [{"value": "down", "user_id": USER}]}, "vectors": {}, "status": "pending", "_server_id": None,
    },
    {
        "id": "c", "fields": {"text": "three"}, "metadata": {}, "suggestions": {}, "responses": {}, "vectors": {},
        "status": "pending", "_server_id": None,
    },
]  # fmt: skip
FLAT = [
    {
        "id": "a", "status": "completed", "_server_id": None, "text": "one", "target": "ACME", "entropy": 0.5,
        "label.responses": ["up", "down"], "label.responses.users": [USER, OTHER], "label.responses.status": ["submitted", "draft"],
        "label.suggestion": "up", "label.suggestion.score": 0.7, "label.suggestion.agent": "t/mean",
    },
    {
        "id": "b", "status": "pending", "_server_id": None, "text": "two", "label.responses": ["down"], "label.responses.users": [USER],
        "label.responses.status": ["discarded"], "entropy": None, "label.suggestion.agent": None, "label.suggestion": None,
        "label.suggestion.score": None, "target": None,
    },
    {
        "id": "c", "status": "pending", "_server_id": None, "text": "three", "label.responses.users": None, "entropy": None,
        "label.suggestion.agent": None, "label.suggestion": None, "label.suggestion.score": None, "label.responses": None,
        "target": None, "label.responses.status": None,
    },
]  # fmt: skip
TEXTS = [Text("one", "a", "ACME", "up"), Text("two", "b"), Text("three", "c")]


def written(folder: Path, rows: object, name: str = "t.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(rows))
    return path


def flat(text: str, *answers: tuple[object, str], question: str = "label") -> dict:
    values, statuses = [value for value, _ in answers], [status for _, status in answers]
    key = f"{question}.responses"
    return {"id": text, "status": "pending", "_server_id": "s", "text": text, key: values, f"{key}.status": statuses}


def soft_label(text: str, **changes: object) -> SoftLabel:
    row = {
        "id": "a", "text": text, "probs": {"up": 0.75, "down": 0.25}, "votes": {"up": 6, "down": 2}, "agreement": 0.75, "n_paths": 8,
        "entropy": 0.5, "label_mass": 0.9, "method": "mean", "teacher_digest": "d", "task_digest": "e",
    }  # fmt: skip
    return SoftLabel(**{**row, **changes})


@pytest.mark.parametrize("rows", [NESTED, FLAT])
@pytest.mark.parametrize("name", ["t.json", "t.jsonl"])
def test_records_are_read_in_both_shapes(tmp_path, rows, name):
    path = tmp_path / name
    path.write_text(json.dumps(rows) if name == "t.json" else "".join(json.dumps(row) + "\n" for row in rows))
    assert read_texts(path).texts == TEXTS
    assert read_texts(path, gold=True).texts == TEXTS[:1]


def test_only_submitted_answers_are_gold_and_the_others_are_counted(tmp_path):
    rows = [
        flat("one", ("up", "submitted"), ("down", "draft"), ("down", "discarded")),
        flat("two", ("up", "draft")),
        flat("three", (None, "discarded")),
        flat("four", ("up", "submitted"), ("down", "submitted")),
        flat("five", ("up", "submitted"), ("down", "submitted"), ("down", "submitted")),
        flat("six", (["up", "down"], "submitted")),
    ]
    read = read_texts(written(tmp_path, rows), gold=True)
    assert [(text.text, text.gold) for text in read.texts] == [("one", "up"), ("five", "down")]
    skipped = "skipped 4 of 6 rows: 1 set aside, 1 not annotated, 1 tied between annotators, 1 with several labels at once"
    assert read.skipped_line() == f"{skipped}; of 2 texts, 1 with annotators who disagreed (the label of most counts)"


def test_answers_without_a_status_count_where_the_record_is_completed_and_that_is_told(tmp_path):
    read = read_texts(written(tmp_path, NESTED), gold=True)
    note = "1 with answers that may be drafts, as the file does not say (export Argilla's records with flatten=True)"
    assert read.skipped_line() == f"skipped 2 of 3 rows: 1 set aside, 1 not annotated; of 1 texts, {note}"
    assert "flatten" not in read_texts(written(tmp_path, FLAT), gold=True).skipped_line()


def test_the_only_field_is_the_text_and_the_only_question_the_gold_one(tmp_path):
    row = {**flat("x", ("up", "submitted"), question="mood"), "text": None, "body": "one", "mood.suggestion": "up"}
    assert [(text.text, text.gold) for text in read_texts(written(tmp_path, [row])).texts] == [("one", "up")]


BROKEN = [
    ([NESTED[0], []], "[1]: expected `object`, got `array`"),
    ([NESTED[0], {"id": "x"}], "[1]: fields: has no field 'text', and no other field is clearly the text; found: nothing"),
    ([{"fields": {"a": "1", "b": "2"}}], "[0]: fields: has no field 'text', and no other field is clearly the text; found: a, b"),
    ([{"fields": {"text": "a", "target": 3}}], "[0]: fields.target: must be text; correct or remove it"),
    ([{"fields": {"text": "a"}, "id": 3}], "[0]: id: expected `str | null`, got `int`"),
    ([{"fields": {"text": "a"}, "responses": []}], "[0]: responses: expected `object | null`, got `array`"),
    ([{"fields": {"text": "a"}, "responses": {"label": [{"value": 3}]}}], "[0]: responses: to 'label' must be labels; make it a label question"),
    (
        [{**flat("a", ("up", "submitted")), "label.responses.status": []}],
        "[0]: label.responses: and label.responses.status must be lists of equal length; export the records again",
    ),
    (
        [flat("a", ("up", "submitted"), question="mood"), flat("b", ("up", "submitted"), question="tone")],
        "responses: answer several questions (mood, tone); name the one with the gold label 'label'",
    ),
    ([flat("a", ("flat", "submitted"))], "[0]: gold: 'flat' is not a label; allowed: up, down"),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "problem"), BROKEN)
def test_a_broken_file_is_refused_with_place_and_problem(tmp_path, rows, problem):
    path = written(tmp_path, rows)
    with pytest.raises(FormatError) as caught:
        read_texts(path, labels=["up", "down"])
    assert str(caught.value) == f"{path}: {problem}"


ODD = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(str.strip)


@given(st.lists(st.tuples(ODD, st.none() | ODD, st.sampled_from(["up", "down"])), min_size=1, unique_by=lambda row: row[:2]))
def test_texts_come_back_from_the_tool_with_what_people_submitted(tmp_path_factory, triples):
    rows = [soft_label(text, id=str(i), target=target) for i, (text, target, _) in enumerate(triples)]
    exported = json.loads(records(rows, "m"))
    for row, (_, _, label) in zip(exported, triples, strict=True):
        row["responses"] = {"label": [{"value": label, "user_id": USER}]}
        row["status"] = "completed"
    read = read_texts(written(tmp_path_factory.mktemp("t"), exported), gold=True)
    assert read.texts == [Text(text, str(i), target, label) for i, (text, target, label) in enumerate(triples)]


def test_a_record_carries_the_suggestion_its_probability_and_an_agent_that_the_server_accepts():
    (row,) = json.loads(records([soft_label("one")], "/models/smöl+(x).gguf mean" + "n" * 300))
    assert row["fields"] == {"text": "one"}
    assert row["metadata"] == {"entropy": 0.5, "agreement": 0.75}
    suggestion = row["suggestions"]["label"]
    assert (suggestion["value"], suggestion["score"]) == ("up", 0.75)
    assert suggestion["agent"].startswith("/models/sm_l__x_.gguf meannn") and len(suggestion["agent"]) == 200


def test_the_settings_hold_fields_question_and_what_to_sort_by():
    whole = json.loads(
        settings(AnnotationGuide({"up": "rises", "down": "", "flat": "stays"}, "Which way?", "Read twice.", target=True))
    )
    assert [field["name"] for field in whole["fields"]] == ["text", "target"]
    (question,) = whole["questions"]
    assert (question["name"], question["title"], question["description"]) == ("label", "Which way?", "up: rises\nflat: stays")
    assert [option["value"] for option in question["settings"]["options"]] == ["up", "down", "flat"]
    assert question["settings"]["visible_options"] == 3
    assert whole["guidelines"] == "Read twice."
    assert [measure["name"] for measure in whole["metadata"]] == ["entropy", "agreement"]
    two = json.loads(settings(AnnotationGuide({"up": "", "down": ""})))
    # the package refuses fewer than three visible options
    assert two["questions"][0]["settings"]["visible_options"] is None and [field["name"] for field in two["fields"]] == ["text"]
