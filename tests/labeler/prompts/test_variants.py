"""The prompt variants of a run: which of them draws which paths, and what in them identifies the run."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.teachers.table_teacher import TASK

from potstill.contract.errors import UserError
from potstill.contract.texts import Text
from potstill.labeler.config import LabelConfig
from potstill.labeler.prompts.variants import Nearest, prompt_variants, prompts_digest
from potstill.labeler.teacher import Identity

IDENTITY = Identity("m", "d", "d", "b")


@given(st.sampled_from(["direct", "cot", "cascade"]), st.integers(1, 9), st.integers(1, 9) | st.none(), st.integers(1, 5))
def test_every_path_belongs_to_one_variant_and_all_are_asked(mode, n_paths, n_variants, n_direct):
    try:
        config = LabelConfig(mode=mode, n_paths=n_paths, n_variants=n_variants, n_direct=n_direct)
    except UserError:
        assert mode == "direct" and n_variants is not None and n_variants < n_paths
        return
    asked = prompt_variants(TASK, config, IDENTITY)
    paths = [path for variant in asked for path in variant.paths]
    assert sorted(paths) == list(range(config.most_paths))
    assert [variant.number for variant in asked] == list(range(config.direct_variants + config.cot_variants))
    assert all(len(variant.paths) <= 1 for variant in asked if variant.mode == "direct")
    modes = [variant.mode for variant in asked]
    assert modes == sorted(modes, reverse=True)  # direct ones first
    assert {"direct": n_paths, "cot": n_paths, "cascade": n_paths + n_direct}[mode] == len(paths)


@given(st.integers(1, 5), st.integers(1, 5))
def test_asking_for_more_paths_of_a_sampled_run_keeps_its_prompts_and_its_paths(n_paths, n_more):
    few, many = (prompt_variants(TASK, LabelConfig(n_paths=n), IDENTITY) for n in (n_paths, n_paths + n_more))
    assert prompts_digest(few) == prompts_digest(many)
    assert all(b.paths[: len(a.paths)] == a.paths for a, b in zip(few, many, strict=True))


@pytest.mark.parametrize(
    "change", [{"examples": "given"}, {"guideline": False}, {"mode": "direct", "n_variants": 4}, {"n_examples_per_label": 2}]
)
def test_whatever_changes_a_prompt_changes_the_digest(change):
    examples = [*TASK.examples, *(msgspec.structs.replace(example, text=example.text + " too") for example in TASK.examples)]
    task = msgspec.structs.replace(TASK, guideline="Be fair.", examples=examples)
    before = {"n_variants": 4, "n_examples_per_label": 1, "n_paths": 4}
    one, other = (prompt_variants(task, LabelConfig(**settings), IDENTITY) for settings in (before, before | change))
    assert prompts_digest(one) == prompts_digest(prompt_variants(task, LabelConfig(**before), IDENTITY))
    assert prompts_digest(one) != prompts_digest(other)


def test_prefix_and_prompt_together_are_the_whole_plain_prompt():
    (variant,) = prompt_variants(TASK, LabelConfig(n_paths=2), IDENTITY)
    whole = variant.prefix + variant.prompt(Text("hm", "a"))
    assert whole.endswith("Text: I sell\nOpinion: Sold.\nAnswer: negative\n\nText: hm\nOpinion:")


def test_nearest_examples_stand_between_the_shared_head_and_the_text():
    chosen = Nearest({"a": (TASK.examples[1],)}, "key")
    (variant,) = prompt_variants(TASK, LabelConfig(n_paths=1, examples="nearest"), IDENTITY, chosen)
    assert variant.prefix == "Up or down?\n- positive: u\n- negative: d\n\n"
    assert variant.prompt(Text("hm", "a")) == "Text: I sell\nOpinion: Sold.\nAnswer: negative\n\nText: hm\nOpinion:"


def test_a_chat_template_is_asked_of_the_teacher():
    with pytest.raises(UserError, match="the teacher has no chat template of its own; use --template plain"):
        prompt_variants(TASK, LabelConfig(template="chat"), IDENTITY)
