"""How a model is loaded."""

from __future__ import annotations

from pathlib import Path

import llama_cpp

from potstill.contract.errors import FormatError
from potstill.models import gguf

REPACKED = ("Q4_0", "Q4_K_M")  # types that llama.cpp rewrites in memory for wide registers


def model_params(model: Path) -> llama_cpp.llamamodel_params:
    """Defaults, but no AMX kernels, and no second copy of weights that are rewritten in memory.

    GCC 12 drops stores to the tile configuration that they load, and the process dies of a general protection fault; a build
    without AMX (as `make` makes it) keeps the other re-packed kernels. A mapped file stays resident beside what was made of it.

    Args:
        model: a GGUF file; what is none is for llama.cpp to refuse.
    """
    params = llama_cpp.llama_model_default_params()
    if b"AMX_INT8 = 1" in llama_cpp.llama_print_system_info():
        params.use_extra_bufts = False
    elif _file_type(model) in REPACKED:
        params.load_mode = llama_cpp.LLAMA_LOAD_MODE_NONE
    return params


def _file_type(model: Path) -> str | None:
    """Type of most of the weights, where the file tells."""
    try:
        return gguf.read_header(model).file_type
    except FormatError:
        return None
