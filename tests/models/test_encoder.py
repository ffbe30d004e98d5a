"""The weights of an encoder folder: one file, or shards that an index names."""

import json

import pytest

from potstill.contract.errors import FormatError
from potstill.contract.files import digest
from potstill.models.catalog import find_backbone
from potstill.models.encoder import find_weights
from potstill.models.verify import verify

SHARDS = {
    "model.safetensors.index.json": ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
    "pytorch_model.bin.index.json": ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"],
}


@pytest.fixture(params=SHARDS)
def sharded(tmp_path, request):
    """(folder, index, shards) of an encoder folder in shards, as save_pretrained() names them."""
    names = SHARDS[request.param]
    for name in ("config.json", "tokenizer.json", *names):
        (tmp_path / name).write_text(name)
    index = {"metadata": {"total_size": 1}, "weight_map": {"b.weight": names[1], "a.weight": names[0], "c.weight": names[1]}}
    (tmp_path / request.param).write_text(json.dumps(index))
    return tmp_path, tmp_path / request.param, [tmp_path / name for name in names]


def test_a_backbone_in_shards_is_found_with_a_digest_of_all_of_them(sharded):
    folder, index, shards = sharded
    weights = find_weights(folder)
    assert (weights.file, list(weights.shards)) == (index, shards)
    found = find_backbone(str(folder)).sha256
    assert found == weights.sha256() == verify(str(folder)).sha256
    shards[1].write_text("other weights")
    assert find_backbone(str(folder)).sha256 != found


def test_one_file_is_preferred_to_shards_as_transformers_does(sharded):
    folder, _, _ = sharded
    (folder / "model.safetensors").write_text("whole")
    assert find_weights(folder).file == folder / "model.safetensors"
    assert find_weights(folder).sha256() == digest.of_bytes(b"whole")


def test_a_missing_shard_is_named(sharded):
    folder, index, shards = sharded
    shards[0].unlink()
    with pytest.raises(FormatError) as caught:
        find_backbone(str(folder))
    assert str(caught.value) == f"{folder}: has no {shards[0].name}, which {index.name} names; copy the whole folder again"
    shards[1].unlink()
    with pytest.raises(FormatError, match=rf"has no {shards[0].name} and 1 more of 2 shards, which {index.name} names"):
        verify(str(folder))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON: Input data was truncated"),
        ("{}", "object missing required field `weight_map`"),
        ('{"weight_map": {}}', "weight_map: names no file; save the encoder there with save_pretrained()"),
        (
            '{"weight_map": {"a": "../a.safetensors"}}',
            "weight_map: names '../a.safetensors'; a shard is a file beside the index; save the encoder there with save_pretrained()",
        ),
        ('{"weight_map": {"a": 3}}', "weight_map[...]: expected `str`, got `int`"),
    ],
)
def test_a_broken_index_is_refused_with_its_place(sharded, content, message):
    folder, index, _ = sharded
    index.write_text(content)
    with pytest.raises(FormatError) as caught:
        find_weights(folder)
    assert str(caught.value) == f"{index}: {message}"


@pytest.mark.slow
@pytest.mark.parametrize("safe", [True, False])
def test_a_backbone_that_transformers_saved_in_shards_embeds_as_the_whole_one_does(tmp_path, safe):
    import numpy as np
    from support.tiny_backbone import write_backbone, write_tokenizer
    from transformers import AutoModel

    from potstill.contract.texts import Text
    from potstill.labeler.embeddings import embeddings

    whole, shards = write_backbone(tmp_path / "whole"), tmp_path / "shards"
    AutoModel.from_pretrained(whole).save_pretrained(shards, max_shard_size="20KB", safe_serialization=safe)
    write_tokenizer(shards)
    assert len(find_weights(shards).shards) > 1
    texts = [Text(text="zebra quartz", id="a"), Text(text="quartz", id="b")]
    np.testing.assert_array_equal(embeddings(texts, find_backbone(str(shards)).path), embeddings(texts, whole))
