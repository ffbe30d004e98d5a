from __future__ import annotations

import numpy as np

from potstill.export.quantization.calibration_texts import BUCKET, batch_by_length, spread_by_length


def a_feed(length, value):
    return {"input_ids": np.full((1, length), value), "attention_mask": np.ones((1, length), np.int64)}


def test_every_text_is_in_one_bucket_of_its_own_length_without_padding():
    rng = np.random.default_rng(0)
    feeds = [a_feed(int(length), i) for i, length in enumerate(rng.integers(3, 9, 100))]
    made = batch_by_length(feeds)
    found = sorted((int(row[0]), len(row)) for batch in made for row in batch["input_ids"])
    assert found == [(i, feed["input_ids"].shape[1]) for i, feed in enumerate(feeds)]
    assert all(len(batch["input_ids"]) <= BUCKET and batch["attention_mask"].all() for batch in made)
    lengths = [batch["input_ids"].shape[1] for batch in made]
    assert lengths == sorted(lengths) and len(made) < 20


def test_what_is_taken_runs_from_the_shortest_to_the_longest_and_the_rest_is_the_rest():
    lengths = [7, 1, 9, 3, 5, 8, 2, 6, 4, 0]
    taken, left = spread_by_length(lengths, lengths, 5)
    assert taken == [8, 2, 6, 4, 0] and left == [7, 1, 9, 3, 5]
    assert spread_by_length(lengths, lengths, 20) == (lengths, [])
    assert spread_by_length(lengths, lengths, 0) == ([], lengths)
