"""How a model is loaded."""

from __future__ import annotations

import llama_cpp


def model_params() -> llama_cpp.llamamodel_params:
    """Defaults, but no AMX kernels.

    GCC 12 drops stores to the tile configuration that they load, and the process dies of a general protection fault; a build
    without AMX (as `make` makes it) keeps the other re-packed kernels.
    """
    params = llama_cpp.llama_model_default_params()
    if b"AMX_INT8 = 1" in llama_cpp.llama_print_system_info():
        params.use_extra_bufts = False
    return params
