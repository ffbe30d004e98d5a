"""Which texts calibration and the gate get, and how texts of one length are batched."""

from __future__ import annotations

import numpy as np
import pytest
from support.tiny_checkpoint import N_VALIDATION, WORDS, write_checkpoint

from potstill.contract.checkpoint import GATE_FILE, VALIDATION_FILE, read_student
from potstill.contract.soft_label import read_soft_labels
from potstill.contract.texts import Text, write_texts
from potstill.export.gate.source import CALIBRATION_BATCH, batch_by_length, group_by_length, read_source, spread_by_length
from potstill.serve.runtime.tokenizer import padded

INPUTS = ["input_ids", "attention_mask", "token_type_ids"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


def a_feed(length, value):
    return {"input_ids": np.full((1, length), value), "attention_mask": np.ones((1, length), np.int64)}


def test_every_text_is_in_one_batch_of_its_own_length_without_padding():
    rng = np.random.default_rng(0)
    feeds = [a_feed(int(length), i) for i, length in enumerate(rng.integers(3, 9, 100))]
    made = batch_by_length(feeds)
    found = sorted((int(row[0]), len(row)) for batch in made for row in batch["input_ids"])
    assert found == [(i, feed["input_ids"].shape[1]) for i, feed in enumerate(feeds)]
    assert all(len(batch["input_ids"]) <= CALIBRATION_BATCH and batch["attention_mask"].all() for batch in made)
    lengths = [batch["input_ids"].shape[1] for batch in made]
    assert lengths == sorted(lengths) and len(made) < 20


def test_a_group_holds_at_most_so_many_texts_of_one_length_in_the_given_order():
    assert group_by_length([a_feed(length, 0) for length in (5, 3, 5, 5, 3)], 2) == [[1, 4], [0, 2], [3]]


def test_texts_are_taken_at_equal_steps_of_length_and_the_rest_is_left():
    lengths = [7, 1, 9, 3, 5, 8, 2, 6, 4, 0]
    taken, left = spread_by_length(lengths, lengths, 5)
    assert taken == [8, 2, 6, 4, 0] and left == [7, 1, 9, 3, 5]
    assert spread_by_length(lengths, lengths, 20) == (lengths, [])
    assert spread_by_length(lengths, lengths, 0) == ([], lengths)


def test_no_text_is_for_calibration_and_for_the_gate(checkpoint, tmp_path):
    student, rng = read_student(checkpoint), np.random.default_rng(5)
    labelled = [
        row.text for file in (VALIDATION_FILE, GATE_FILE) for row in read_soft_labels(checkpoint / file, labels=student.labels)
    ]
    new = [" ".join(rng.choice(WORDS, rng.integers(2, 20))) for _ in range(300)]
    (tmp_path / "pool.jsonl").write_bytes(write_texts([Text(text, id=str(i)) for i, text in enumerate([*labelled, *new])]))
    alone, pooled = (read_source(checkpoint, student, INPUTS, pool) for pool in (None, tmp_path / "pool.jsonl"))
    assert pooled.gate.texts[:N_VALIDATION] == alone.gate.texts[:N_VALIDATION]
    assert pooled.gate.n_validation == N_VALIDATION and len(pooled.gate.texts) > len(alone.gate.texts)
    calibration = {tuple(feed["input_ids"][0].tolist()) for feed in pooled.calibration}
    assert calibration.isdisjoint(tuple(feed["input_ids"][0].tolist()) for feed in pooled.gate.feeds)
    assert not {text for text, _ in pooled.unused} & {text for text, _ in pooled.gate.texts}


def test_a_padded_batch_masks_what_it_adds():
    feeds = [
        {"input_ids": np.full((1, n), n), "attention_mask": np.ones((1, n), int), "token_type_ids": np.ones((1, n), int)}
        for n in (3, 5)
    ]
    batch = padded(feeds, pad_id=7, n_tokens=9)
    assert {value.shape for value in batch.values()} == {(2, 9)}
    assert batch["attention_mask"].sum(axis=1).tolist() == [3, 5]
    assert batch["input_ids"][0].tolist() == [3] * 3 + [7] * 6
    assert batch["token_type_ids"][0].sum() == 3
