"""A model in several files is one model: opened by its first piece, known by the bytes of all, refused where one is wrong."""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.teachers.split_gguf import write_pieces

from potstill.contract.errors import FormatError
from potstill.labeler.engine.llama import EngineConfig, LlamaEngine, Token
from potstill.models import gguf
from potstill.models.catalog import find_teacher
from potstill.models.repack import repack
from potstill.models.verify import verify

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(tiny_models: dict[str, Path]) -> Path:
    return tiny_models["dense"]


@pytest.fixture(scope="module")
def written(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_pieces(whole, tmp_path_factory.mktemp("pieces"), 8)


@pytest.fixture
def pieces(written: list[Path], tmp_path: Path) -> list[Path]:
    """Copies that a test may damage."""
    return [Path(shutil.copy(piece, tmp_path)) for piece in written]


def logits(model: Path) -> np.ndarray:
    engine = LlamaEngine(model)
    engine.start(EngineConfig(n_cells=256, n_batch=256, n_sequences=1, n_threads=1))
    tokens = engine.tokenize("up 20% and buying more")
    engine.decode([Token(t, i, 0, wants_logits=i == len(tokens) - 1) for i, t in enumerate(tokens)])
    found = engine.logits(len(tokens) - 1).copy()
    engine.close()
    return found


def test_the_header_of_a_model_in_pieces_is_that_of_the_model_in_one(whole, pieces):
    assert len(pieces) == 3
    one, several = gguf.read_header(whole), gguf.read_header(pieces[0])
    assert several.files == tuple(pieces)
    assert several.n_bytes == sum(piece.stat().st_size for piece in pieces)
    same = {"files": (), "piece": 0, "n_pieces": 1, "n_tensors_in_all": 0, "n_bytes": 0, "weights_bytes": 0}
    assert replace(several, **same) == replace(one, **same)
    assert several.weights_bytes == pytest.approx(one.weights_bytes, abs=len(pieces) * 32)  # each is padded


def test_the_digest_is_that_of_the_bytes_of_all_pieces(pieces):
    expected = hashlib.sha256(b"".join(piece.read_bytes() for piece in pieces)).hexdigest()
    assert find_teacher(str(pieces[0])).sha256 == verify(str(pieces[0])).sha256 == expected


def test_other_weights_in_the_last_piece_are_another_teacher(pieces):
    before = find_teacher(str(pieces[0])).sha256
    data = bytearray(pieces[-1].read_bytes())
    data[-64] ^= 1
    pieces[-1].write_bytes(bytes(data))
    assert find_teacher(str(pieces[0])).sha256 != before


def test_the_engine_reads_all_pieces(whole, pieces):
    np.testing.assert_array_equal(logits(pieces[0]), logits(whole))


def test_repacking_makes_one_file_of_the_pieces(whole, pieces, tmp_path):
    made = repack(pieces[0], tmp_path / "packed.gguf", "Q8_0", threads=1)
    assert made.source_sha256 == gguf.sha256(pieces[0])
    assert gguf.read_header(made.path).files == (made.path,)
    one = repack(whole, tmp_path / "one.gguf", "Q8_0", threads=1)
    np.testing.assert_array_equal(logits(made.path), logits(one.path))


def refusal(path: Path) -> str:
    with pytest.raises(FormatError) as caught:
        find_teacher(str(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_another_piece_than_the_first_is_refused_with_the_name_of_the_first(pieces):
    assert refusal(pieces[1]) == f"{pieces[1]}: is piece 2 of 3; a model in pieces opens from its first one: {pieces[0]}"


def test_missing_pieces_are_named(pieces):
    pieces[1].unlink()
    first = f"{pieces[0]}: is the first of 3 pieces; these are missing beside it:"
    assert refusal(pieces[0]) == f"{first} {pieces[1].name}; fetch them, too"
    pieces[2].unlink()
    assert refusal(pieces[0]) == f"{first} {pieces[1].name}, {pieces[2].name}; fetch them, too"


def test_a_first_piece_under_another_name_cannot_find_the_others(pieces):
    renamed = pieces[0].rename(pieces[0].with_name("teacher.gguf"))
    problem = "is the first of 3 pieces, and its name does not say where the others are"
    assert refusal(renamed) == f"{renamed}: {problem}; give all of them names like NAME-00001-of-00003.gguf again"


def test_pieces_in_another_order_are_refused(pieces):
    shutil.copy(pieces[2], pieces[1])
    problem = "is not piece 2 of 3: it says that it is piece 3 of 3; fetch it again"
    assert refusal(pieces[0]) == f"{pieces[1]}: {problem}"


def test_a_whole_model_in_the_place_of_a_piece_is_refused(pieces, whole):
    shutil.copy(whole, pieces[1])
    problem = "is not piece 2 of 3: it says that it is piece 1 of 1; fetch it again"
    assert refusal(pieces[0]) == f"{pieces[1]}: {problem}"


def test_a_piece_that_was_cut_short_is_named(pieces):
    data = pieces[2].read_bytes()
    pieces[2].write_bytes(data[: len(data) // 2])
    assert refusal(pieces[0]).startswith(f"{pieces[2]}: is truncated: it has {len(data) // 2} bytes, ")


def test_pieces_of_another_cut_of_the_model_are_refused(pieces, whole, tmp_path):
    (tmp_path / "other").mkdir()
    n = sum(gguf._read_file(piece).n_tensors for piece in pieces)
    others = write_pieces(whole, tmp_path / "other", n // 3 + 1)
    assert len(others) == 3 and gguf._read_file(others[2]).n_tensors != gguf._read_file(pieces[2]).n_tensors
    shutil.copy(others[2], pieces[2])
    assert refusal(pieces[0]).startswith(f"{pieces[0]}: its 3 pieces have ")
