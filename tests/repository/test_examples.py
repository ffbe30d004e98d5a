"""The examples are sound, large enough, and written one by one."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from potstill.contract.task import load_task
from potstill.contract.texts import read_texts

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
RUN_LENGTH = 8  # words that no two texts may share in a row


def runs(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"[\w$%']+", text.lower())
    return {tuple(words[i : i + RUN_LENGTH]) for i in range(len(words) - RUN_LENGTH + 1)}


@pytest.mark.parametrize(("name", "n_texts", "n_gold"), [("market_stance", 400, 120), ("support_tickets", 100, 40)])
def test_an_example_has_a_sound_task_and_enough_texts(name, n_texts, n_gold):
    task = load_task(EXAMPLES / name / "task.toml")
    texts = read_texts(EXAMPLES / name / "texts.jsonl", target=False)
    gold = read_texts(EXAMPLES / name / "gold.jsonl", labels=task.label_names, target=False)
    assert len(texts.texts) >= n_texts and len(gold.texts) >= n_gold
    assert not texts.skipped and not gold.skipped
    assert all(text.gold is None for text in texts.texts)
    counts = Counter(text.gold for text in gold.texts)
    assert set(counts) == set(task.label_names)
    assert min(counts.values()) >= 0.8 * len(gold.texts) / len(task.labels)


def test_no_two_texts_share_a_run_of_eight_words():
    owners: dict[tuple[str, ...], str] = {}
    for file in sorted(EXAMPLES.glob("*/*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            place = f"{file.parent.name}/{file.name} {row['id']}"
            for run in runs(row["text"]):
                assert owners.setdefault(run, place) == place, f"{place} and {owners[run]} share: {' '.join(run)}"


def test_worked_examples_are_none_of_the_texts():
    for file in sorted(EXAMPLES.glob("*/task.toml")):
        shown = set().union(*(runs(example.text) for example in load_task(file).examples))
        for texts in sorted(file.parent.glob("*.jsonl")):
            assert not any(runs(text.text) & shown for text in read_texts(texts).texts)


def test_further_posts_are_sound_and_go_on_where_the_others_end():
    folder = EXAMPLES / "market_stance"
    labels = load_task(folder / "task.toml").label_names
    for name, labelled in (("texts", None), ("gold", labels)):
        first, more = (
            read_texts(folder / f"{prefix}{name}.jsonl", labels=labelled, target=False).texts for prefix in ("", "more_")
        )
        numbers = [int(text.id.split("-")[1]) for text in first + more]
        assert sorted(numbers) == list(range(1, len(numbers) + 1))
        assert not {text.text for text in first} & {text.text for text in more}
