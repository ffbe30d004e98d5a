import shutil

import pytest

from potstill.contract.errors import FormatError, UserError
from potstill.models import places
from potstill.models.catalog import load_catalog
from potstill.models.verify import verify


def test_the_embedded_models_are_what_the_catalog_says(smollm2, minilm):
    for name in ("smollm2-135m-instruct", "all-minilm-l6-v2"):
        verified = verify(name)
        assert verified.sha256 == verified.expected == load_catalog()[name].sha256
        assert verified.as_text() == f"{name}: whole; SHA-256 as expected: {verified.sha256}"


def test_a_file_of_ones_own_is_verified_without_anything_to_compare_to(smollm2):
    verified = verify(str(smollm2))
    assert verified.expected is None
    assert verified.as_text() == f"{smollm2}: whole; SHA-256, with nothing to compare it to: {verified.sha256}"


def test_an_encoder_folder_is_named_by_its_weights(minilm):
    assert verify(str(minilm)).path == minilm / "model.safetensors"


def test_a_changed_file_beside_the_weights_is_found(minilm, tmp_path, monkeypatch):
    monkeypatch.setenv("POTSTILL_MODELS", str(tmp_path))
    folder = tmp_path / "modernbert-base"
    shutil.copytree(minilm, folder)
    for name in load_catalog()["modernbert-base"].files:
        (folder / name).touch()
    places.record_sums(folder, {"config.json": "0" * 64})
    with pytest.raises(UserError) as caught:
        verify("modernbert-base")
    assert str(caught.value).startswith(f"{folder / 'config.json'}: SHA-256 is ")
    assert "expected 000000000000…; delete the file, then fetch it with: potstill models fetch modernbert-base" in str(caught.value)


def test_what_is_no_model_is_refused(tmp_path):
    (tmp_path / "notes.gguf").write_text("hello")
    with pytest.raises(FormatError, match="is not a GGUF file"):
        verify(str(tmp_path / "notes.gguf"))
