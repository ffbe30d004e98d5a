"""Files for annotation tools, read and written back by the tools' own packages (label-studio-sdk 2.1.2, argilla 2.8.0).

The packages ask for other versions of our libraries, so they may be in other environments: POTSTILL_TOOLS names their Pythons,
separated as in PATH. Without one that has the package the test is skipped.
"""

import json
import os
import subprocess
import sys

import pytest

from potstill.contract.interchange.annotation import AnnotationGuide
from potstill.contract.interchange.review_export import ReviewConfig, write_review
from potstill.contract.soft_label import SoftLabel
from potstill.contract.texts import read_texts

pytestmark = pytest.mark.slow

GUIDE = AnnotationGuide({"up": "it rises", "down": 'it "falls" & <stays>'}, "Where does $it go?", "Judge the author.", target=True)
ODD = ["plain", "=1+1", '<script>alert("&amp;")</script>', "line\nbreak", "$text", "drei \N{SNOWMAN}"]


def python_with(module):
    """A Python that has the module; skips the test if there is none."""
    for python in [sys.executable, *filter(None, os.environ.get("POTSTILL_TOOLS", "").split(os.pathsep))]:
        if subprocess.run([python, "-W", "ignore", "-c", f"import {module}"], capture_output=True, timeout=120).returncode == 0:
            return python
    return pytest.skip(f"no Python with {module}; name one that has it in POTSTILL_TOOLS")


def the_tool(python, code, *arguments):
    """What the program prints, as JSON."""
    environment = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run(
        [python, "-W", "ignore", "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=120, env=environment
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def rows():
    """A soft label for each odd text."""
    rest = {"votes": {"up": 6, "down": 2}, "agreement": 0.75, "n_paths": 8, "label_mass": 0.9, "method": "mean"}
    digests = {"teacher_digest": "d", "task_digest": "e"}
    return [
        SoftLabel(id=f"t{i}", text=text, target="ACME", probs={"up": 0.75, "down": 0.25}, entropy=0.5 - i / 20, **rest, **digests)
        for i, text in enumerate(ODD)
    ]


LABEL_STUDIO = """
import json, sys, tempfile
from label_studio_sdk.converter import Converter
from label_studio_sdk.label_interface import LabelInterface
tasks, config, export = json.load(open(sys.argv[1])), open(sys.argv[2]).read(), sys.argv[3]
interface = LabelInterface(config)
interface.validate()
valid = [interface.validate_task({"data": task["data"]}) for task in tasks]
errors = [error for task in tasks for error in interface.validate_prediction(task["predictions"][0], return_errors=True)]
for number, task in enumerate(tasks, 1):  # the server copies a prediction that a person accepts, or changes
    result = [{**part, "id": "r", "origin": "manual"} for part in task["predictions"][0]["result"]]
    if number % 2:
        result[0]["value"] = {"choices": ["down"]}
    assert interface.validate_annotation({"result": result})
    task["id"], task["annotations"] = number, [{"id": number, "completed_by": 1, "result": result, "was_cancelled": False}]
json.dump(tasks, open(export, "w"))
with tempfile.TemporaryDirectory() as folder:
    Converter(config, folder, download_resources=False).convert_to_json_min(export, folder, is_dir=False)
    found = json.load(open(folder + "/result.json"))
print(json.dumps({"valid": valid, "errors": errors, "found": [[row["id_"] if "id_" in row else row["text"], row["label"]] for row in found]}))
"""


def test_label_studio_takes_our_tasks_and_we_take_its_export(rows, tmp_path):
    python = python_with("label_studio_sdk")
    written = write_review(tmp_path / "review.json", rows, GUIDE, "teacher mean", ReviewConfig("label-studio", "id"))
    said = the_tool(python, LABEL_STUDIO, written.path, written.settings_file, tmp_path / "export.json")
    assert said["valid"] == [True] * len(ODD) and said["errors"] == []
    read = read_texts(tmp_path / "export.json", labels=["up", "down"], target=True, gold=True).texts
    assert [(text.text, text.id) for text in read] == [(row.text, row.id) for row in rows]
    assert [[text.text, text.gold] for text in read] == said["found"]
    assert [text.gold for text in read] == ["down", "up"] * 3


ARGILLA = """
import json, sys
from unittest.mock import MagicMock
import argilla as rg
rg.Argilla._default_client = MagicMock()  # settings ask for a server's client, and read the file without it
from argilla.records._io import GenericIO, JsonIO
source, settings_file, nested, flat = sys.argv[1:]
settings = rg.Settings.from_json(settings_file)
settings.validate()
records = JsonIO._records_from_json(source)
user = "00000000-0000-0000-0000-000000000001"
for number, record in enumerate(records):
    value = record.suggestions["label"].value if number % 2 else "down"
    record.responses.add(rg.Response("label", value, user_id=user, status="submitted" if number else "draft"))
JsonIO.to_json(records, nested)
with open(flat, "w") as file:
    for row in GenericIO.to_list(records, flatten=True):
        file.write(json.dumps(row, default=str) + "\\n")
print(json.dumps({
    "labels": settings.questions["label"].labels, "guidelines": settings.guidelines, "texts": [record.fields["text"] for record in records],
    "fields": [field.name for field in settings.fields], "metadata": [field.name for field in settings.metadata],
}))
"""


def test_argilla_takes_our_records_and_we_take_its_own(rows, tmp_path):
    python = python_with("argilla")
    written = write_review(tmp_path / "review.json", rows, GUIDE, "teacher mean", ReviewConfig("argilla", "id"))
    nested, flat = tmp_path / "nested.json", tmp_path / "flat.jsonl"
    said = the_tool(python, ARGILLA, written.path, written.settings_file, nested, flat)
    assert (said["labels"], said["fields"], said["metadata"]) == (["up", "down"], ["text", "target"], ["entropy", "agreement"])
    assert said["guidelines"] == GUIDE.guideline and said["texts"] == ODD
    of_flat = read_texts(flat, labels=["up", "down"], target=True, gold=True)
    assert [(text.id, text.text, text.gold) for text in of_flat.texts] == [
        (row.id, row.text, "up" if i % 2 else "down")
        for i, row in enumerate(rows)
        if i  # the first answer is a draft
    ]
    assert of_flat.skipped == {"set aside": 1}
    assert [(text.id, text.text) for text in read_texts(nested).texts] == [(row.id, row.text) for row in rows]
