from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.tiny_checkpoint import N_VALIDATION, WORDS, write_checkpoint

from potstill.contract.checkpoint import read_student
from potstill.export.bundle.distance import MAX_DIRECTIONS
from potstill.export.bundle.familiarity import fit_familiarity
from potstill.export.config import ExportConfig
from potstill.export.gate.forms import float_form, int8_and_fused_forms
from potstill.export.gate.source import read_source
from potstill.export.graph import export_float
from potstill.serve.runtime.session import DISTANCE, open_session

pytestmark = pytest.mark.slow

CONFIG = ExportConfig(max_drop=1, min_agreement=0, max_change=1, threads=1)


@pytest.fixture(scope="module", params=[False, True], ids=["texts", "pairs"])
def parts(request, tmp_path_factory):
    """(every form of a checkpoint's graph, its content, a scratch folder)."""
    folder, scratch = tmp_path_factory.mktemp("checkpoint"), tmp_path_factory.mktemp("scratch")
    write_checkpoint(folder, target=request.param)
    student = read_student(folder)
    raw = export_float(folder, scratch, student.max_tokens)
    source = read_source(folder, student, [node.name for node in raw.graph.input])
    reference = float_form(raw, source, CONFIG, scratch)
    others, _ = int8_and_fused_forms(reference, source, CONFIG, scratch)
    return {one.form.variant: one for one in [reference, *others]}, source, scratch


def fitted(parts, rate=0.05, variant="static_int8", source=None):
    forms, whole, scratch = parts
    return fit_familiarity(forms[variant], source or whole, rate, scratch)


def test_tokens_are_scored_by_how_much_more_often_the_pool_has_them(parts):
    source, found = parts[1], fitted(parts).familiarity
    scores = dict(zip(found.tokens, found.scores, strict=True))
    frame = source.tokenize.ids("", "" if source.student.target else None)["input_ids"][0].tolist()
    assert {scores[token] for token in frame} == {0.0}  # every text has them
    words = [source.tokenize.ids(word, None)["input_ids"][0, 1] for word in WORDS if word != "acme"]
    assert all(scores[word] < -1 for word in words)  # a seventh of the pool each, of a vocabulary of thousands
    assert found.unseen == pytest.approx(-math.log(0.5), abs=1e-3)
    assert (found.n, found.n_counted) == (N_VALIDATION, 50)


@pytest.mark.parametrize("variant", ["float", "float_fused", "static_int8"])
def test_the_second_output_is_the_distance_and_the_first_one_stays_the_same_to_the_bit(parts, variant, tmp_path):
    forms, source, _ = parts
    known = fitted(parts, variant=variant)
    assert known.familiarity.distance_weight > 0
    path: Path = tmp_path / "model.onnx"
    path.write_bytes(known.model.SerializeToString())
    session, plain = open_session(path, max_tokens=source.student.max_tokens), open_session(forms[variant].path)
    assert [node.name for node in session.get_outputs()] == ["logits", DISTANCE]
    for feeds in source.gate.feeds:
        logits, squared = session.run(["logits", DISTANCE], feeds)
        assert np.array_equal(logits, plain.run(["logits"], feeds)[0]) and squared.shape == (1,) and squared[0] > 0


def test_the_threshold_keeps_the_rate_on_the_texts_that_it_was_chosen_on(parts, tmp_path):
    for rate in (0.05, 0.2):
        known = fitted(parts, rate)
        found, path = known.familiarity, tmp_path / "model.onnx"
        path.write_bytes(known.model.SerializeToString())
        session, own = open_session(path), []
        scores = dict(zip(found.tokens, found.scores, strict=True))
        for feeds in parts[1].gate.feeds[:N_VALIDATION]:
            mean = np.mean([scores.get(token, found.unseen) for token in feeds["input_ids"][0].tolist()])
            own.append(mean + found.distance_weight * math.sqrt(session.run([DISTANCE], feeds)[0][0]))
        above = np.array(own) > found.threshold + 1e-9
        assert rate - 2 / N_VALIDATION <= above.mean() <= rate


def test_too_few_held_out_texts_tell_nothing_and_leave_the_graph_alone(parts):
    forms, source, _ = parts
    assert fitted(parts, 0.01).familiarity is None
    assert fitted(parts, 0.01).model is forms["static_int8"].model
    few = replace(source.gate, n_validation=18)
    assert fitted(parts, source=replace(source, gate=few)).familiarity is None
    enough = replace(source.gate, n_validation=19)
    assert fitted(parts, source=replace(source, gate=enough)).familiarity.n == 19


def test_a_network_without_layers_is_told_by_its_tokens_alone(parts):
    forms, source, scratch = parts
    flat = replace(forms["float"], model=type(forms["float"].model)())
    known = fit_familiarity(flat, source, 0.05, scratch)
    assert known.familiarity.distance_weight == 0 and known.model is flat.model
    assert MAX_DIRECTIONS > 0 and known.familiarity.threshold != 0
