import re

import llama_cpp
import pytest

from potstill.labeler.engine import llama_engine
from potstill.labeler.engine.llama_engine import EngineConfig, LlamaEngine


def test_the_size_of_the_cache_is_what_llama_cpp_says_of_it(smollm2):
    lines = []

    @llama_cpp.llama_log_callback
    def listen(_level, text, _data):
        lines.append(text.decode())

    engine = LlamaEngine(smollm2)
    try:
        assert engine.cache_bytes == 0
        llama_cpp.llama_log_set(listen, None)
        engine.start(EngineConfig(n_cells=768, n_sequences=4))
        llama_engine._silence()
        (mebibytes,) = re.findall(r"size = +([\d.]+) MiB \( *768 cells", "".join(lines))
        assert engine.cache_bytes / 2**20 == pytest.approx(float(mebibytes), abs=0.005)  # it rounds
    finally:
        llama_engine._silence()
        engine.close()
    assert engine.cache_bytes == 0
