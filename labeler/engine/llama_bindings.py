"""llama.cpp's C API below the engine: load parameters, log messages, interruptible calls, and samplers."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, TypeVar

from potstill.labeler.engine import library as llama_cpp
from potstill.models import gguf

REPACKED = ("Q4_0", "Q4_K_M")  # types that llama.cpp rewrites in memory for wide registers
TOP_K = 40  # as the paper samples from PaLM's family; it also saves sorting the whole vocabulary
NO_HANDLE: Any = None  # where llama.cpp's handle will be, or was
_LEVEL_ERROR = 4  # in ggml_log_level
_N_LOG_LINES = 5
_LOG_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)  # llama.cpp's ggml_log_callback

T = TypeVar("T")


# Load parameters


def model_params(header: gguf.Header | None, n_gpu_layers: int = 0) -> Any:
    """Default load parameters, but without AMX kernels and without a second copy of weights that are rewritten in memory.

    GCC 12 drops stores to the tile configuration that AMX kernels load, and the process dies of a general protection fault; a
    build without AMX (as `make` makes it) keeps the other re-packed kernels. A mapped file would stay resident beside the
    rewritten weights.

    Args:
        header: of the model; None for a form that llama.cpp may know and we do not.
        n_gpu_layers: layers that go to the GPU, from the last one on; llama.cpp's own default is all of them, fit or not.
    """
    params = llama_cpp.llama_model_default_params()
    params.n_gpu_layers = n_gpu_layers
    if b"AMX_INT8 = 1" in llama_cpp.llama_print_system_info():
        params.use_extra_bufts = False
    elif is_rewritten(header):
        params.load_mode = llama_cpp.LLAMA_LOAD_MODE_NONE
    return params


def is_rewritten(header: gguf.Header | None) -> bool:
    """Whether llama.cpp rewrites the weights in memory, so that they are no mapped file."""
    return header is not None and header.file_type in REPACKED and b"AMX_INT8 = 1" not in llama_cpp.llama_print_system_info()


# Log messages: the only place where llama.cpp says why it failed


_log_lines: list[str] = []  # the latest errors


@_LOG_CALLBACK  # type: ignore[untyped-decorator]
def _keep_errors(level: int, text: bytes, _: ctypes.c_void_p) -> None:
    """Keep llama.cpp's errors for our messages instead of letting it write to stderr."""
    if level == _LEVEL_ERROR and text.strip():
        _log_lines.append(text.decode("utf-8", "replace").strip())
        del _log_lines[:-_N_LOG_LINES]


def capture_log() -> None:
    """Keep llama.cpp's log off stderr; its errors are then available from :func:`last_errors`."""
    llama_cpp.llama_log_set(_keep_errors, ctypes.c_void_p(0))


def clear_errors() -> None:
    """Forget the errors logged so far."""
    _log_lines.clear()


def last_errors() -> str:
    """The errors logged since :func:`clear_errors`, on one line."""
    return "; ".join(_log_lines) or "it gave no reason"


# Calls


class LongCalls:
    """One thread that runs calls into C, one after the other. Close it before the memory they work on is freed."""

    def __init__(self) -> None:
        """Start the thread, with the abort flag cleared."""
        self._thread = ThreadPoolExecutor(1, "llama.cpp")
        self.flag = ctypes.create_string_buffer(2)  # a C string: empty means continue, one character means abort

    def run(self, function: Callable[..., T], *args: Any) -> T:
        """Call the function in the thread and return its result.

        Raises:
            KeyboardInterrupt: after the flag was set and the function has returned.
        """
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


def abort_check_address() -> int:
    """Address of a C function that takes the flag's address and tells whether the flag is set.

    It is libc's strlen: a Python function would have to take the interpreter's lock some hundred times in every decode.
    """
    return ctypes.cast(ctypes.CDLL(None).strlen, ctypes.c_void_p).value or 0


# Sampling


class Sampler:
    """One path's own sampler chain: top-k, temperature, and a draw with its own seed. Freed by :meth:`close`."""

    def __init__(self, temperature: float, seed: int) -> None:
        """Args: temperature above 0; seed from 0 to 2^32 - 1."""
        self.chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
        llama_cpp.llama_sampler_chain_add(self.chain, llama_cpp.llama_sampler_init_top_k(TOP_K))
        llama_cpp.llama_sampler_chain_add(self.chain, llama_cpp.llama_sampler_init_temp(temperature))
        llama_cpp.llama_sampler_chain_add(self.chain, llama_cpp.llama_sampler_init_dist(seed))

    def close(self) -> None:
        """Free the chain; safe to call twice, also after an interrupt in the middle."""
        chain, self.chain = self.chain, None
        if chain:
            llama_cpp.llama_sampler_free(chain)
