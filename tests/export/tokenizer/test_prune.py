"""A pruned vocabulary answers as the whole one does wherever all pieces of a text are kept."""

from __future__ import annotations

import dataclasses
import json

import msgspec
import numpy as np
import pytest
from safetensors.numpy import load_file
from support.tiny_checkpoint import LOOSE, WORDS, write_checkpoint
from tokenizers import Tokenizer

from potstill.contract.errors import FormatError, UserError
from potstill.contract.texts import Text, write_texts
from potstill.export.config import ExportConfig
from potstill.export.gate.quality import Quality
from potstill.export.run import export_bundle
from potstill.export.tokenizer.prune import prune_checkpoint
from potstill.serve.runtime.classifier import Classifier

pytestmark = pytest.mark.slow

KEPT = ["the price will rise", "calls and puts, " * 30, "Never! acme?"]
SPELLED = "waab wzzz"  # the first is a piece of the whole vocabulary that no text of the pool has


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    path = tmp_path_factory.mktemp("pool") / "pool.jsonl"
    path.write_bytes(write_texts([Text(" ".join(WORDS[i:] + WORDS[:i])) for i in range(len(WORDS))]))
    return path


def ids(folder, text):
    return Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids


def test_rows_of_the_embeddings_go_with_their_pieces_and_the_rest_is_copied(checkpoint, pool, tmp_path):
    cut = prune_checkpoint(checkpoint, pool, tmp_path, target=False)
    assert len(cut.ids) < cut.n_before == 2100
    whole, small = load_file(checkpoint / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    table = "bert.embeddings.word_embeddings.weight"
    np.testing.assert_array_equal(small[table], whole[table][cut.ids])
    assert whole.keys() == small.keys() and all((whole[name] == small[name]).all() for name in whole if name != table)
    assert json.loads((tmp_path / "config.json").read_text())["vocab_size"] == len(cut.ids)
    assert (tmp_path / "validation.jsonl").read_bytes() == (checkpoint / "validation.jsonl").read_bytes()
    for text in KEPT:
        assert [cut.ids[i] for i in ids(tmp_path, text)] == ids(checkpoint, text)
    assert len(ids(tmp_path, SPELLED)) > len(ids(checkpoint, SPELLED)) and 1 not in ids(tmp_path, SPELLED)  # 1 is unknown


def test_a_pruned_bundle_is_smaller_and_answers_the_same_where_all_pieces_are_kept(checkpoint, pool, tmp_path):
    float_only = dataclasses.replace(LOOSE, variant="float")
    whole = export_bundle(checkpoint, tmp_path / "whole", float_only)
    small = export_bundle(checkpoint, tmp_path / "small", dataclasses.replace(float_only, prune_vocab=str(pool)))
    assert small.size_bytes < 0.6 * whole.size_bytes
    with Classifier.open(whole.bundle) as one, Classifier.open(small.bundle) as other:
        np.testing.assert_array_equal(one.logits(KEPT), other.logits(KEPT))
        assert np.abs(one.logits([SPELLED]) - other.logits([SPELLED])).max() > 1e-3


def test_what_pruning_gave_and_cost_is_told_and_int8_is_held_against_the_whole_vocabulary(checkpoint, pool, tmp_path):
    report = export_bundle(checkpoint, tmp_path / "bundle", dataclasses.replace(LOOSE, prune_vocab=str(pool)))
    found = msgspec.json.decode((tmp_path / "bundle" / "quality.json").read_bytes(), type=Quality)
    told = found.pruned
    assert told.n_pieces < told.n_pieces_before == 2100 and told.bytes < told.bytes_before
    assert (told.respelled, told.flips, told.macro_f1) == (0, 0, told.macro_f1_before)  # the gate's texts are of the pool's words
    assert told.ms_p50 > 0 and told.ms_p50_before > 0
    assert [form.variant for form in found.forms] == ["float", "static_int8"] and found.variant == "static_int8"
    assert f"vocabulary: {told.n_pieces} of 2100 pieces; float " in report.as_text()
    assert f"0 of {told.n} texts are tokenized differently, 0 change their label" in report.as_text()


def test_pieces_that_the_gate_s_texts_miss_are_counted(checkpoint, tmp_path):
    (tmp_path / "pool.jsonl").write_bytes(write_texts([Text("the price")]))
    config = ExportConfig(max_drop=1, min_agreement=0, max_change=1, variant="float", prune_vocab=str(tmp_path / "pool.jsonl"))
    told = export_bundle(checkpoint, tmp_path / "bundle", config).quality.pruned
    assert 0 < told.respelled <= told.n
    with pytest.raises(UserError, match="pool.jsonl: leaves too few pieces: .*; give more texts, or leave out --prune-vocab$"):
        export_bundle(checkpoint, tmp_path / "none", dataclasses.replace(config, min_agreement=0.99))
    assert not (tmp_path / "none").exists()


def test_a_pool_that_needs_nearly_all_pieces_is_refused(checkpoint, tmp_path):
    pieces = [piece for piece in Tokenizer.from_file(str(checkpoint / "tokenizer.json")).get_vocab() if piece.startswith("w")]
    (tmp_path / "pool.jsonl").write_bytes(write_texts([Text(" ".join(pieces))]))
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match=r"its texts use 20\d\d of 2100 pieces, so pruning gains nothing; leave out --prune-vocab"):
        prune_checkpoint(checkpoint, tmp_path / "pool.jsonl", tmp_path / "out", target=False)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_network_whose_positions_hang_on_the_padding_id_is_refused_where_it_would_move(checkpoint, pool, tmp_path):
    own, out = tmp_path / "own", tmp_path / "out"
    own.mkdir()
    out.mkdir()
    for path in checkpoint.iterdir():
        (own / path.name).write_bytes(path.read_bytes())
    config = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(json.dumps({**config, "model_type": "roberta", "pad_token_id": 2099}))
    with pytest.raises(FormatError, match="pad_token_id: is 2099 and would become .*, which moves the positions of this network"):
        prune_checkpoint(own, pool, out, target=False)


def test_a_student_that_reads_bytes_has_no_vocabulary_to_prune(checkpoint, pool, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    for path in checkpoint.iterdir():
        (own / path.name).write_bytes(path.read_bytes())
    (own / "config.json").write_text(json.dumps({"model_type": "potstill-charformer"}))
    with pytest.raises(UserError, match="reads bytes and has no vocabulary to prune; leave out --prune-vocab"):
        prune_checkpoint(own, pool, tmp_path, target=False)
