"""The onnxruntime session behind every answer, with settings that keep it fast, quiet and reproducible."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime as ort
import tokenizers
from onnxruntime.capi import onnxruntime_pybind11_state as failures

from potstill.contract.errors import FormatError
from potstill.contract.security.onnx_form import check_graph
from potstill.contract.system import machine
from potstill.contract.system.machine import Machine
from potstill.serve.runtime.denormals import thread_left_as_it_was

INPUTS = ("input_ids", "attention_mask", "token_type_ids")  # the inputs that a graph may have
OUTPUT = "logits"
DISTANCE = "distance"  # a second output that a graph may have: how far a text's middle layer is from the pool's, squared [B]
MAX_REASON_CHARS = 300  # of an error of the library
# onnxruntime raises these for a graph that it cannot load or run; the binding raises the last ones for errors of C++
GRAPH_ERRORS: tuple[type[Exception], ...] = (
    *(kind for kind in vars(failures).values() if isinstance(kind, type) and issubclass(kind, Exception)),
    *(RuntimeError, ValueError, TypeError, MemoryError, IndexError, OverflowError),
)


def open_session(model: Path, threads: int = 1, data: bytes | None = None, max_tokens: int | None = None) -> ort.InferenceSession:
    """Open an ONNX classifier: int64 [B, T] token ids in, float32 [B, C] logits out. Many threads may run one session.

    Args:
        model: the ONNX file.
        threads: cores that one run may use, at least 1; answers from several threads need only 1 each.
        data: the file's bytes, if they were read; then the file is not.
        max_tokens: longest text, in tokens; None: the file is trusted.
    Raises:
        FormatError: if the graph contains more than a classifier needs (`security/onnx_form.py`), onnxruntime cannot load it, it
            has other inputs, or no output `logits`.
        ValueError: if threads is below 1.
    """
    if threads < 1:
        raise ValueError(f"threads is {threads}; it must be at least 1")
    check_graph(model, data, max_tokens)
    try:
        with thread_left_as_it_was():
            session = ort.InferenceSession(
                str(model) if data is None else data, session_options(threads), providers=["CPUExecutionProvider"]
            )
    except GRAPH_ERRORS as error:
        reason = " ".join(str(error).split())[:MAX_REASON_CHARS]
        raise FormatError(model, "", f"onnxruntime {ort.__version__} cannot load it: {reason}") from error
    session._model_bytes = None  # the file once more, which onnxruntime keeps for a change of providers
    with graph_errors(model):  # a name that is not UTF-8
        names, outputs = ([node.name for node in nodes] for nodes in (session.get_inputs(), session.get_outputs()))
    if "input_ids" not in names or not set(names) <= set(INPUTS):
        raise FormatError(model, "inputs", f"are {', '.join(names)}; allowed: {', '.join(INPUTS)}")
    if outputs[:1] != [OUTPUT]:
        raise FormatError(model, "outputs", f"must begin with {OUTPUT!r}; it is not a sequence classifier")
    return session


@contextmanager
def graph_errors(model: Path) -> Iterator[None]:
    """Turn an error of running a graph, or of reading what it gave, into a FormatError that names the file."""
    try:
        yield
    except GRAPH_ERRORS as error:
        reason = " ".join(str(error).split())[:MAX_REASON_CHARS]
        raise FormatError(model, "", f"onnxruntime {ort.__version__} cannot run it: {reason}") from error


def session_options(threads: int) -> ort.SessionOptions:
    """The settings of every session. Waiting worker threads do not spin, so an idle server uses no CPU."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.enable_mem_pattern = False  # the pattern cache keeps one plan per input shape, and every text length is a new shape
    options.log_severity_level = 4  # errors arrive as exceptions
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    return options


def this_machine() -> Machine:
    """The versions of the libraries that compute an answer, and the CPU with the flags that select its kernels."""
    flags = machine.cpu()[1]
    return Machine(
        onnxruntime=ort.__version__,
        tokenizers=tokenizers.__version__,
        numpy=np.__version__,
        cpu=machine.cpu_name(),
        flags=flags,
    )
