"""How a model is loaded."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, TypeVar

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


T = TypeVar("T")


class LongCalls:
    """One thread for calls into C, one after the other. Close it before what they work on is freed."""

    def __init__(self) -> None:
        """Start with the flag down."""
        self._thread = ThreadPoolExecutor(1, "llama.cpp")
        self.flag = ctypes.create_string_buffer(2)  # empty: go on; one character: give up

    def run(self, function: Callable[..., T], *args: Any) -> T:
        """What the function returns. A KeyboardInterrupt raises the flag, waits for the function, and comes out."""
        future = self._thread.submit(function, *args)
        try:
            wait([future])
        except KeyboardInterrupt:
            self.flag[0] = b"!"
            wait([future])
            self.flag[0] = b"\0"
            raise
        return future.result()

    def close(self) -> None:
        """Wait for a call that a second KeyboardInterrupt left running; safe to call twice."""
        self.flag[0] = b"!"
        self._thread.shutdown()


def is_raised() -> int:
    """Address of a C function that takes the flag's address and says whether it is raised.

    It is libc's strlen: a Python function would have to take the interpreter's lock some hundred times in every decode.
    """
    return ctypes.cast(ctypes.CDLL(None).strlen, ctypes.c_void_p).value or 0


TOP_K = 40  # as in the paper's sampling from PaLM's family; it also spares a sort of the whole vocabulary


class Sampler:
    """One path's own chain: temperature, then a draw with its own seed. Freed by :meth:`close`."""

    def __init__(self, temperature: float, seed: int) -> None:
        """Args: temperature above 0; seed from 0 to 2^32 - 1."""
        self.chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
        llama_cpp.llama_sampler_chain_add(self.chain, llama_cpp.llama_sampler_init_top_k(TOP_K))
        llama_cpp.llama_sampler_chain_add(self.chain, llama_cpp.llama_sampler_init_temp(temperature))
        llama_cpp.llama_sampler_chain_add(self.chain, llama_cpp.llama_sampler_init_dist(seed))

    def close(self) -> None:
        """Give the chain back; safe to call twice, also after an interrupt in the middle."""
        chain, self.chain = self.chain, None
        if chain:
            llama_cpp.llama_sampler_free(chain)
