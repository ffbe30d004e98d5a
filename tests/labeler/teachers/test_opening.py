"""Which weights a teacher is opened with, and how they are loaded."""

from __future__ import annotations

import shutil
from pathlib import Path

import llama_cpp
import pytest

from potstill.labeler.engine.llama_bindings import model_params
from potstill.labeler.teachers.opening import packed_file
from potstill.models import gguf
from potstill.models.catalog import find_teacher, load_catalog
from potstill.models.repack import repacked

NAME = "smollm2-135m-instruct"


def test_auto_packs_a_known_teacher_as_the_catalog_advises():
    advised = load_catalog()[NAME].pack
    assert advised == "Q4_0" == gguf.read_header(packed_file(NAME).path).file_type
    assert packed_file(NAME) == packed_file(NAME, "Q4_0")


def test_auto_packs_an_unknown_file_to_q8_0_where_its_type_is_slow_in_batches_and_leaves_others(smollm2: Path, tmp_path: Path):
    slow = shutil.copy(smollm2, tmp_path / "own.gguf")
    assert gguf.read_header(packed_file(str(slow)).path).file_type == "Q8_0"
    fast = repacked(find_teacher(NAME), "Q8_0").path
    assert packed_file(str(fast)).path == fast


@pytest.mark.parametrize(("pack", "copied"), [("Q4_0", True), ("Q8_0", False), ("as-is", False)])
def test_a_file_that_llama_cpp_rewrites_in_memory_is_read_and_not_mapped(pack, copied):
    if b"AMX_INT8 = 1" in llama_cpp.llama_print_system_info():
        pytest.skip("this build rewrites nothing: its AMX kernels are switched off with the others")
    mode = model_params(packed_file(NAME, pack).path).load_mode
    assert mode == (llama_cpp.LLAMA_LOAD_MODE_NONE if copied else llama_cpp.LLAMA_LOAD_MODE_AUTO)
