"""docs/howto/embedding.md: the code that stands there answers as the runtime does."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from support.tiny_bundle import a_tokenizer, write_bundle
from tokenizers import Tokenizer

from potstill.contract.bundle import write_sums
from potstill.serve.runtime.classifier import Classifier

pytestmark = pytest.mark.slow

TEXTS = ["rise", "", "naïve 🚀", "the price will rise! " * 9, "stay? fall."]


def snippet(repository):
    page = (repository / "docs" / "howto" / "embedding.md").read_text(encoding="utf-8")
    (code,) = [code for code in re.findall(r"^```python\n(.*?)^```", page, re.M | re.S) if "onnxruntime" in code]
    return code


def a_bundle(folder, **changes):
    """A tiny bundle whose tokenizer truncates, as that of an export does."""
    write_bundle(folder, **changes)
    tokenizer = Tokenizer.from_str(a_tokenizer().decode())
    tokenizer.enable_truncation(16, strategy="longest_first", direction="right")
    (folder / "tokenizer.json").write_text(tokenizer.to_str())
    write_sums(folder)
    return folder


def test_the_code_is_about_thirty_lines_without_what_is_blank(repository):
    assert len([line for line in snippet(repository).splitlines() if line.strip()]) <= 30


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"bias": [0.5, 0.0, -1.0], "temperature": 0.3},
        {"thresholds": {"up": 0.9, "flat": None}},
        {"target": True},
    ],
    ids=["plain", "bias", "thresholds", "target"],
)
def test_it_answers_as_the_runtime_does_and_imports_nothing_of_ours(tmp_path, repository, changes):
    targets = ["the price"] * len(TEXTS) if changes.get("target") else None
    with Classifier.open(a_bundle(tmp_path / "bundle", **changes)) as classifier:
        expected = classifier.classify(TEXTS, targets)
    ask = f"import sys\nasked = {TEXTS!r}\nabouts = {targets!r} or [None] * len(asked)\n"
    ask += "assert not {'serve', 'contract', 'torch', 'transformers'} & set(sys.modules)\n"
    ask += "print(json.dumps([classify(text, about) for text, about in zip(asked, abouts)]))\n"
    done = subprocess.run(
        [sys.executable, "-I", "-c", snippet(repository) + ask],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for found, answer in zip(json.loads(done.stdout), expected, strict=True):
        assert (found["label"], found["abstain"]) == (answer.label, answer.abstain)
        assert found["probs"] == pytest.approx(answer.probs, abs=1e-9)


def test_it_notices_golden_texts_that_drift(tmp_path, repository):
    folder = a_bundle(tmp_path / "bundle")
    lines = (folder / "golden.jsonl").read_text().splitlines()
    row = json.loads(lines[0])
    (folder / "golden.jsonl").write_text(json.dumps({**row, "probs": [0.1, 0.1, 0.8]}) + "\n")
    done = subprocess.run(
        [sys.executable, "-I", "-c", snippet(repository)], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1 and f"AssertionError: {row['text']}" in done.stderr
