"""The whole chain over a task of several questions, small, with the real models: texts in, measured bundle out."""

import json
import shutil

import pytest

from potstill.commands.main import run as ask
from potstill.contract.bundle import read_manifest
from potstill.contract.checkpoint import read_student
from potstill.serve.runtime.classifier import Classifier

pytestmark = pytest.mark.slow

TASK = """
format = 2
name = "posts"
[[questions]]
name = "stance"
question = "What does the author expect of the price?"
labels = [{ name = "rise" }, { name = "fall" }]
[[questions]]
name = "asks"
kind = "yesno"
question = "Does the author ask something?"
[[questions]]
name = "topics"
kind = "tags"
question = "Does the post mention {tag}?"
labels = [{ name = "news" }, { name = "a broker" }]
[[questions]]
name = "sure"
kind = "degree"
question = "How sure is the author?"
labels = [{ name = "low" }, { name = "high" }]
"""
PROJECT = """
format = 1
gold = "gold.jsonl"
[label]
mode = "direct"
n_paths = 2
deterministic = true
[train]
epochs = 1
max_tokens = 32
min_agreement = 0.0
[export]
variant = "float"
"""
GOLD = [
    ("The chart looks dreadful and I sold.", {"stance": "fall", "asks": False, "topics": [], "sure": "high"}),
    ("Will my broker let me buy before the news is out?", {"asks": True, "topics": ["news", "a broker"], "sure": "low"}),
    ("Earnings tomorrow, this goes up.", {"stance": "rise", "asks": False, "topics": ["news"], "sure": "high"}),
]


def test_a_project_of_several_questions_ends_with_scores_of_each(repository, tmp_path, monkeypatch, capsys):
    texts = (repository / "examples" / "market_stance" / "texts.jsonl").read_text(encoding="utf-8").splitlines()[:40]
    (tmp_path / "texts.jsonl").write_text("\n".join(texts), encoding="utf-8")
    (tmp_path / "gold.jsonl").write_text("".join(json.dumps({"text": text, "gold": gold}) + "\n" for text, gold in GOLD))
    (tmp_path / "task.toml").write_text(TASK)
    (tmp_path / "project.toml").write_text(PROJECT)
    monkeypatch.chdir(tmp_path)
    assert ask(["run", "project.toml"]) == 0
    said = capsys.readouterr().out
    for name in ("stance (choice)", "asks (yesno)", "topics (tags)", "sure (degree)", "student minus teacher", "bundle"):
        assert name in said, said
    assert [head.name for head in read_student(tmp_path / "out" / "student").heads] == ["stance", "asks", "topics", "sure"]
    with Classifier.open(tmp_path / "out" / "bundle") as classifier:
        (answer,) = classifier.classify(["it goes up"])
    assert list(answer.questions) == [head.name for head in read_manifest(tmp_path / "out" / "bundle").heads]
    assert ask(["run", "project.toml"]) == 0
    assert capsys.readouterr().out.count("nothing has changed") == 3
    shutil.rmtree(tmp_path / "out")
