"""Soft labels follow from the stored paths alone. The teacher here is a table: the rules are about votes, not about llama.cpp."""

import math
from pathlib import Path

import numpy as np
import pytest

from contract.errors import UserError
from contract.soft_label import read_soft_labels, write_soft_labels
from contract.texts import Text
from labeler.aggregate import METHODS, soft_labels
from labeler.paths import TeacherPath
from labeler.store import LabelStore, Run, RunSettings

SETTINGS = RunSettings(
    task_digest="t", prompt_digest="p", labels=["up", "down"], words=["up", "rise", "down"], word_labels=[0, 0, 1], teacher="m",
    teacher_digest="d", source_digest="d", build="b", mode="direct", n_variants=2, temperature=0.5, max_rationale_tokens=40, seed=0,
)  # fmt: skip


def filled(folder: Path, table: dict[str, list[tuple[float, float, float]]]) -> tuple[LabelStore, Run]:
    """A store with the given word probabilities: one path each, variants in turn."""
    store = LabelStore.create(folder / "labels.db")
    run = store.begin_run(SETTINGS)
    store.add_texts([Text(f"text {name}", name, gold="up" if name == "g" else None) for name in table])
    rows = [(name, i, words) for name, paths in table.items() for i, words in enumerate(paths)]
    store.add(run, [TeacherPath(name, i, i % 2, 0, "", tuple(math.log(p) for p in words), 5, 0) for name, i, words in rows])
    return store, run


def test_mean_averages_the_paths_with_label_words_summed(tmp_path: Path):
    store, run = filled(tmp_path, {"a": [(0.1, 0.2, 0.1), (0.1, 0.1, 0.2)]})
    (row,) = soft_labels(store, run, "mean")
    assert row.probs == pytest.approx({"up": (0.75 + 0.5) / 2, "down": (0.25 + 0.5) / 2})
    assert row.label_mass == pytest.approx(0.4)
    assert row.n_paths == 2
    store.close()


def test_votes_are_the_share_of_paths(tmp_path: Path):
    store, run = filled(tmp_path, {"a": [(0.5, 0.1, 0.2)] * 3 + [(0.1, 0.1, 0.7)]})
    (row,) = soft_labels(store, run, "votes")
    assert row.probs == {"up": 0.75, "down": 0.25}
    assert row.votes == {"up": 3, "down": 1}
    assert row.agreement == 0.75
    store.close()


def test_calibration_is_within_each_variant_so_a_variant_s_own_bias_goes(tmp_path: Path):
    # variant 0 leans to "up", variant 1 to "down"; only text b is really different from a
    table = {"a": [(0.6, 0.2, 0.1), (0.05, 0.05, 0.8)], "b": [(0.5, 0.1, 0.3), (0.02, 0.02, 0.9)]}
    store, run = filled(tmp_path, table)
    rows = {row.id: row for row in soft_labels(store, run, "calibrated")}
    assert rows["a"].votes == {"up": 2, "down": 0}
    assert rows["b"].votes == {"up": 0, "down": 2}
    np.testing.assert_allclose(np.mean([row.probs["up"] for row in rows.values()]), 0.5, atol=1e-4)
    store.close()


def test_scaling_every_word_probability_changes_nothing_but_the_mass(tmp_path: Path):
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    table = {"a": [(0.6, 0.2, 0.1)], "b": [(0.2, 0.1, 0.4)]}
    whole, halved = (
        filled(tmp_path / "1", table),
        filled(tmp_path / "2", {k: [tuple(p / 2 for p in w) for w in v] for k, v in table.items()}),
    )
    for first, second in zip(soft_labels(*whole), soft_labels(*halved), strict=True):
        assert first.probs == pytest.approx(second.probs)
        assert first.label_mass == pytest.approx(2 * second.label_mass)
    whole[0].close(), halved[0].close()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_what_is_derived_keeps_the_format_s_promises_and_its_gold(tmp_path: Path, method, suffix):
    store, run = filled(tmp_path, {"g": [(0.3, 0.2, 0.1)], "b": [(0.2, 0.1, 0.4)]})
    rows = soft_labels(store, run, method, ["g", "b"])
    write_soft_labels(tmp_path / f"soft{suffix}", rows)
    assert read_soft_labels(tmp_path / f"soft{suffix}", labels=["up", "down"]) == rows
    assert [row.gold for row in rows] == ["up", None]
    store.close()


def test_texts_come_in_the_wanted_order_and_those_without_a_path_are_left_out(tmp_path: Path):
    store, run = filled(tmp_path, {"a": [(0.3, 0.2, 0.1)], "b": [(0.2, 0.1, 0.4)]})
    assert [row.id for row in soft_labels(store, run, ids=["b", "unknown", "a"])] == ["b", "a"]
    store.close()


def test_a_run_without_a_path_says_what_to_do(tmp_path: Path):
    store, run = filled(tmp_path, {})
    with pytest.raises(UserError, match="holds no path of this run yet; run: potstill label"):
        soft_labels(store, run)
    store.close()
