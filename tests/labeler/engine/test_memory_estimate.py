"""The memory that is estimated from a header, held against what llama.cpp says that it takes."""

import re

import llama_cpp
import pytest
from support.teachers.tiny_gguf import KINDS

from potstill.contract.errors import UserError
from potstill.contract.system import machine
from potstill.labeler.config import LocalConfig
from potstill.labeler.engine.llama import EngineConfig, LlamaEngine, LoadConfig, NoContextError
from potstill.labeler.engine.llama_bindings import capture_log
from potstill.labeler.teachers.opening import open_local
from potstill.models.gguf import read_header
from potstill.models.memory import memory_needed

pytestmark = pytest.mark.slow

CONTEXTS = {
    "f16": [
        EngineConfig(n_cells=4096, n_sequences=96),
        EngineConfig(n_cells=4096, n_sequences=96, flash_attention=False),
        EngineConfig(n_cells=16384, n_batch=256, n_sequences=8, flash_attention=False),
        EngineConfig(n_cells=1024, n_sequences=1),
    ],
    "q8_0": [EngineConfig(n_cells=4096, n_sequences=96)],
}


@pytest.fixture
def account():
    """Bytes of the buffers that llama.cpp says it makes, by what they hold: `KV`, `compute`, ..."""
    found: dict[str, float] = {}

    @llama_cpp.llama_log_callback
    def keep(_level, text, _data):
        line = re.search(r"(\w+) +buffer size = +([\d.]+) MiB", text.decode("utf-8", "replace"))
        if line:
            found[line[1]] = found.get(line[1], 0) + float(line[2]) * 2**20

    def listen():
        found.clear()
        llama_cpp.llama_log_set(keep, None)
        return found

    yield listen
    capture_log()


def test_the_cache_is_what_llama_cpp_takes_and_the_work_space_not_less(smollm2, tiny_models, account):
    for path in (smollm2, *(tiny_models[kind] for kind in KINDS)):
        header = read_header(path)
        for kv_type, configs in CONTEXTS.items():
            if kv_type == "q8_0" and path != smollm2:
                continue  # a head of the tiny models is narrower than a block of 32
            engine = LlamaEngine(path, LoadConfig(kv_type=kv_type))
            try:
                for config in configs:
                    found = account()
                    engine.start(config)
                    check(header, kv_type, config, found)
            finally:
                engine.close()


def check(header, kv_type, config, found):
    """Hold the estimate against llama.cpp's account of a context that was just made."""
    need = memory_needed(
        header,
        config.n_cells,
        kv_type,
        n_sequences=config.n_sequences,
        n_batch=config.n_batch,
        flash_attention=config.flash_attention,
    )
    place = f"{header.files} {kv_type} {config}"
    assert need.cache_bytes == pytest.approx(found.get("KV", 0) + found.get("RS", 0), rel=0.01, abs=20_000), place
    assert found["output"] + found["compute"] <= need.compute_bytes * 1.02, place
    assert need.compute_bytes <= 2 * (found["output"] + found["compute"]) + 4e6, place


def test_the_weights_are_what_llama_cpp_takes(smollm2, account):
    found = account()
    model = llama_cpp.llama_model_load_from_file(str(smollm2).encode(), llama_cpp.llama_model_default_params())
    llama_cpp.llama_model_free(model)
    assert read_header(smollm2).weights_bytes == pytest.approx(found["model"], rel=0.01)


def free_memory(monkeypatch, tmp_path, n_bytes):
    """Let the system say that only so much memory is free."""
    (tmp_path / "meminfo").write_text(f"MemTotal: 99999999 kB\nMemAvailable: {n_bytes // 1024} kB\n")
    monkeypatch.setattr(machine, "MEMINFO", tmp_path / "meminfo")


def test_a_model_that_does_not_fit_is_refused_with_the_numbers_before_it_is_loaded(smollm2, tmp_path, monkeypatch):
    free_memory(monkeypatch, tmp_path, 100_000_000)
    with pytest.raises(UserError) as error:
        open_local(str(smollm2), pack="as-is", config=LocalConfig(cache=tmp_path), open_engine=lambda *_: pytest.fail("loaded"))
    assert str(error.value) == (
        f"{smollm2}: does not fit into memory: it needs 140 MB (weights 97 MB, cache 24 MB, work space 20 MB) for one path at a "
        "time, and 100 MB are free; stop other programs, or take a smaller model or one with fewer bits a weight"
    )


def test_a_context_that_does_not_fit_is_refused_with_the_numbers_and_a_smaller_one_is_made(smollm2, tmp_path, monkeypatch):
    engine = LlamaEngine(smollm2)
    try:
        free_memory(monkeypatch, tmp_path, 200_000_000)
        with pytest.raises(NoContextError) as error:
            engine.start(EngineConfig(n_cells=8192))
        assert str(error.value) == (
            f"{smollm2}: no context of 8192 tokens and 96 sequences: it needs weights 97 MB, cache 189 MB, work space 46 MB, and "
            "200 MB are free; free memory or lower --parallel"
        )
        engine.start(EngineConfig(n_cells=1024, n_sequences=8))
    finally:
        engine.close()


def test_an_8_bit_cache_reaches_llama_cpp_and_needs_flash_attention(smollm2, account):
    engine = LlamaEngine(smollm2, LoadConfig(kv_type="q8_0"))
    try:
        with pytest.raises(ValueError, match="a cache of q8_0 needs flash attention"):
            engine.start(EngineConfig(flash_attention=False))
        found = account()
        engine.start(EngineConfig(n_cells=4096))
        assert found["KV"] == pytest.approx(4096 * 30 * 2 * 3 * 64 * 34 / 32, rel=0.01)
    finally:
        engine.close()
