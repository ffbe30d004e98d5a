"""Worked examples that are chosen for each text: the most similar ones of every label, with the real encoder."""

from pathlib import Path

import pytest

from potstill.contract.errors import UserError
from potstill.contract.task import load_task
from potstill.contract.texts import Text
from potstill.labeler.config import LabelConfig
from potstill.labeler.prompts.variants import Nearest, nearest_examples, prompt_variants, prompts_digest
from potstill.labeler.run.label import label
from potstill.labeler.teacher import Identity
from potstill.models.catalog import find_backbone

TASK = load_task(Path(__file__).parents[3] / "examples" / "market_stance" / "task.toml")
TEXTS = [Text(example.text, f"copy {i}") for i, example in enumerate(TASK.examples)] + [Text("Which day do they report?", "date")]
NEAREST = LabelConfig(mode="direct", n_paths=4, examples="nearest", n_examples_per_label=1)


@pytest.fixture(scope="module")
def chosen() -> Nearest:
    return nearest_examples(TASK, TEXTS, 1, find_backbone("all-minilm-l6-v2"))


def asked(chosen: Nearest, config: LabelConfig = NEAREST):
    return prompt_variants(TASK, config, Identity("rule", "d", "d", "build 1"), chosen)


def test_every_label_has_its_most_similar_example_and_the_most_similar_of_all_stands_last(chosen):
    for i, example in enumerate(TASK.examples):
        own = chosen.examples[f"copy {i}"]
        assert own[-1] == example
        assert sorted(e.label for e in own) == sorted(TASK.label_names)
    assert chosen.examples["date"][-1].text.startswith("Does anyone know whether Corvane reports")


def test_a_label_with_fewer_examples_than_wanted_gives_all_it_has(chosen):
    own = nearest_examples(TASK, TEXTS, 9, find_backbone("all-minilm-l6-v2")).examples["date"]
    assert len(own) == len(TASK.examples) and set(own) == set(TASK.examples)


def test_the_prompt_shares_no_example_and_shows_each_text_its_own(chosen):
    variant = asked(chosen)[0]
    assert not any(example.text in variant.prefix for example in TASK.examples)
    blocks = variant.prompt(TEXTS[-1]).split("\n\n")
    assert blocks[-1] == "Post: Which day do they report?\nSentiment:"
    assert blocks[-2].endswith("on Thursday?\nSentiment: neutral")
    assert len(blocks) == 4


def test_other_variants_show_the_same_examples_in_other_orders_the_last_label_going_round(chosen):
    labels = []
    for variant in asked(chosen)[1:]:
        blocks = variant.prompt(TEXTS[0]).split("\n\n")[:-1]
        assert sorted(blocks) == sorted(asked(chosen)[0].prompt(TEXTS[0]).split("\n\n")[:-1])
        labels.append(blocks[-1].rpartition(" ")[2])
    assert labels == ["negative", "neutral", "positive"]
    prompts = [variant.prompt(TEXTS[0]) for variant in asked(chosen)]
    assert [variant.prompt(TEXTS[0]) for variant in asked(chosen)] == prompts


def test_a_run_with_examples_chosen_otherwise_is_another_run(chosen, ruled_teacher, tmp_path: Path):
    teacher = ruled_teacher(lambda prompt, path: [-1.0] * 12)
    label(TASK, TEXTS, tmp_path / "labels.db", teacher, NEAREST, nearest=chosen)
    other = Nearest(chosen.examples, "another encoder")
    assert prompts_digest(asked(chosen)) != prompts_digest(asked(other))
    with pytest.raises(UserError, match="was labelled with another prompt digest"):
        label(TASK, TEXTS, tmp_path / "labels.db", teacher, NEAREST, nearest=other)


def test_examples_are_chosen_by_text_only_where_the_configuration_says_so(chosen):
    with pytest.raises(ValueError, match="needs the chosen examples"):
        prompt_variants(TASK, NEAREST, Identity("rule", "d", "d", "build 1"))
    assert (
        asked(chosen, LabelConfig(mode="direct"))[0].prefix
        == prompt_variants(TASK, LabelConfig(mode="direct"), Identity("rule", "d", "d", "build 1"))[0].prefix
    )
