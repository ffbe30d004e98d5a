from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from support.tiny_checkpoint import N_VALIDATION, WORDS, write_checkpoint

from potstill.contract.checkpoint import read_student
from potstill.export.bundle.familiarity import fit_familiarity
from potstill.export.gate.source import read_source
from potstill.serve.runtime.session import INPUTS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=[False, True], ids=["texts", "pairs"])
def source(request, tmp_path_factory):
    folder = write_checkpoint(tmp_path_factory.mktemp("checkpoint"), target=request.param)
    return read_source(folder, read_student(folder), list(INPUTS))


def test_tokens_are_scored_by_how_much_more_often_the_pool_has_them(source):
    found = fit_familiarity(source, 0.05)
    scores = dict(zip(found.tokens, found.scores, strict=True))
    frame = source.tokenize.ids("", "" if source.student.target else None)["input_ids"][0].tolist()
    assert {scores[token] for token in frame} == {0.0}  # every text has them
    words = [source.tokenize.ids(word, None)["input_ids"][0, 1] for word in WORDS if word != "acme"]
    assert all(scores[word] < -1 for word in words)  # a seventh of the pool each, of a vocabulary of thousands
    assert found.unseen == pytest.approx(-math.log(0.5), abs=1e-3)
    assert (found.n, found.n_counted) == (N_VALIDATION, 50)


def test_the_threshold_keeps_the_rate_on_the_texts_that_it_was_chosen_on(source):
    for rate in (0.05, 0.2):
        found = fit_familiarity(source, rate)
        scores = dict(zip(found.tokens, found.scores, strict=True))
        ids = [feeds["input_ids"][0] for feeds in source.gate.feeds[:N_VALIDATION]]
        own = [np.mean([scores.get(token, found.unseen) for token in one.tolist()]) for one in ids]
        assert np.mean(np.array(own) > found.threshold + 1e-12) <= rate


def test_too_few_held_out_texts_tell_nothing(source):
    assert fit_familiarity(source, 0.01) is None
    few = replace(source.gate, majority=source.gate.majority[:18])
    assert fit_familiarity(replace(source, gate=few), 0.05) is None
    enough = replace(source.gate, majority=source.gate.majority[:19])
    assert fit_familiarity(replace(source, gate=enough), 0.05).n == 19
