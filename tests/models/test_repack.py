import os
import shutil

import pytest

from potstill.contract.errors import FormatError, UserError
from potstill.contract.files import digest
from potstill.models.catalog import find_teacher
from potstill.models.gguf import read_header
from potstill.models.repack import Repacked, repack, repacked

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def q4(smollm2, tmp_path_factory):
    """The real teacher as Q4_0."""
    return repack(smollm2, tmp_path_factory.mktemp("q4") / "teacher.gguf", "Q4_0", threads=2)


def test_a_repacked_teacher_is_whole_and_keeps_its_context(q4, smollm2):
    header = read_header(q4.path)
    assert (header.architecture, header.n_ctx_train, header.n_tensors) == ("llama", 8192, 272)
    assert q4.path.stat().st_size < smollm2.stat().st_size


def test_both_digests_are_reported(q4, smollm2):
    assert q4.sha256 == digest.of_file(q4.path)
    assert q4.source_sha256 == digest.of_file(smollm2)


def test_the_engine_loads_what_was_repacked(q4):
    import llama_cpp

    model = llama_cpp.llama_model_load_from_file(os.fsencode(q4.path), llama_cpp.llama_model_default_params())
    assert model
    assert llama_cpp.llama_model_n_ctx_train(model) == 8192
    llama_cpp.llama_model_free(model)


def test_repacking_says_nothing_on_its_own_and_leaves_nothing_behind(smollm2, tmp_path, capfd):
    repack(smollm2, tmp_path / "a" / "q8.gguf", "Q8_0", threads=2)
    assert capfd.readouterr() == ("", "")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["q8.gguf"]


def test_the_cache_repacks_once(tmp_path, monkeypatch, smollm2):
    monkeypatch.setenv("POTSTILL_MODELS", str(tmp_path))
    teacher = find_teacher("smollm2-135m-instruct")
    first = repacked(teacher, "Q4_0")
    written = first.path.stat().st_mtime_ns
    assert repacked(teacher, "Q4_0") == first == Repacked(first.path, digest.of_file(first.path), teacher.sha256)
    assert first.path.stat().st_mtime_ns == written
    first.path.write_bytes(b"damaged")
    assert repacked(teacher, "Q4_0") == first


def test_a_source_that_is_no_gguf_is_refused(tmp_path):
    (tmp_path / "a.gguf").write_bytes(b"nothing of the kind")
    with pytest.raises(FormatError, match="is not a GGUF file"):
        repack(tmp_path / "a.gguf", tmp_path / "b.gguf", "Q8_0")
    assert not (tmp_path / "b.gguf").exists()


def test_a_source_that_is_cut_short_is_refused_and_the_target_stays(smollm2, tmp_path):
    shutil.copy(smollm2, tmp_path / "cut.gguf")
    os.truncate(tmp_path / "cut.gguf", smollm2.stat().st_size - 1)
    (tmp_path / "b.gguf").write_bytes(b"as it was")
    with pytest.raises(FormatError, match="is truncated"):
        repack(tmp_path / "cut.gguf", tmp_path / "b.gguf", "Q8_0")
    assert (tmp_path / "b.gguf").read_bytes() == b"as it was"


def test_what_llama_cpp_refuses_is_one_line_with_its_reason(smollm2, tmp_path):
    data = smollm2.read_bytes().replace(b"general.architecture", b"general.architecturf", 1)
    (tmp_path / "odd.gguf").write_bytes(data)
    with pytest.raises(UserError) as caught:
        repack(tmp_path / "odd.gguf", tmp_path / "b.gguf", "Q8_0", threads=2)
    assert str(caught.value).startswith(f"{tmp_path / 'odd.gguf'}: llama.cpp cannot re-pack it to Q8_0 (")
    assert str(caught.value).endswith("; use it as it is, or fetch another file")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["odd.gguf"]


def test_the_source_is_never_written_over(smollm2, tmp_path):
    (tmp_path / "a.gguf").symlink_to(smollm2)
    with pytest.raises(UserError, match=r"is the source itself; name another file$"):
        repack(smollm2, tmp_path / "a.gguf", "Q8_0")


def test_a_place_that_cannot_be_written_is_one_line(smollm2, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"b.gguf: cannot be written \(.*\); free some space or choose another place$"):
        repack(smollm2, tmp_path / "file" / "b.gguf", "Q8_0")
