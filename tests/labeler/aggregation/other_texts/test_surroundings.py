"""When a derivation looks at other texts, and what it says where it cannot."""

import numpy as np
import pytest

from potstill.contract.errors import UserError
from potstill.contract.texts import Text
from potstill.labeler.aggregation.config import DeriveConfig
from potstill.labeler.aggregation.other_texts.surroundings import NOTHING, TextSpace, settled, surroundings
from potstill.labeler.aggregation.other_texts.text_prior import MIN_TEXTS

TEXTS = [Text(f"a text about {word}", str(i)) for i, word in enumerate(["cats", "dogs", "shares", "bonds"])]


def test_many_texts_and_a_backbone_at_hand_are_refined(minilm):
    config, note = settled(DeriveConfig(), MIN_TEXTS)
    assert (config.refine, note) == ("on", None)


def test_few_texts_are_not():
    assert settled(DeriveConfig(), MIN_TEXTS - 1) == (DeriveConfig(refine="off"), None)


def test_without_the_backbone_or_its_libraries_they_are_not_and_that_is_said(monkeypatch, minilm):
    config, note = settled(DeriveConfig(backbone="nowhere"), 1000)
    assert config.refine == "off"
    assert note.startswith("labels are not refined by what other texts say: 'nowhere' is neither")

    def missing():
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr("potstill.labeler.encoder_at_hand.check_embedding_libraries", missing)
    config, note = settled(DeriveConfig(), 1000)
    assert config.refine == "off"
    assert note == (
        "labels are not refined by what other texts say: the package 'torch' is not installed; install it with: pip install 'potstill[train]'"
    )


@pytest.mark.parametrize("method", ["votes", "mean", "majority"])
def test_methods_that_show_what_the_paths_say_are_left_alone(method):
    assert settled(DeriveConfig(method=method), 1000) == (DeriveConfig(method=method, refine="off"), None)


@pytest.mark.parametrize("refine", ["on", "off"])
def test_what_was_decided_stays(refine):
    assert settled(DeriveConfig(refine=refine), 3) == (DeriveConfig(refine=refine), None)


def test_nothing_is_embedded_where_nothing_is_wanted():
    assert surroundings(TEXTS, DeriveConfig(refine="off", backbone="nowhere")) is NOTHING


def test_neighbours_that_are_not_there_are_refused_before_anything_is_read():
    with pytest.raises(UserError) as caught:
        surroundings(TEXTS, DeriveConfig(smooth=4, backbone="nowhere"))
    assert str(caught.value) == "smooth is 4 neighbours, and the run has 4 texts; ask for at most 3"


def test_texts_are_embedded_once(minilm, monkeypatch):
    from potstill.labeler import embeddings as real

    asked = []
    plain = real.embeddings

    def counted(texts, folder):
        asked.append([text.id for text in texts])
        return plain(texts, folder)

    monkeypatch.setattr(real, "embeddings", counted)
    space = TextSpace("all-minilm-l6-v2")
    both = space.vectors(TEXTS[:3]), space.vectors(TEXTS[::-1])
    assert asked == [["0", "1", "2"], ["3"]]
    np.testing.assert_array_equal(both[0], both[1][:0:-1])
    found = surroundings(TEXTS, DeriveConfig(refine="on", smooth=2), space)
    assert found.vectors is not None and found.near is not None
    assert len(asked) == 2
