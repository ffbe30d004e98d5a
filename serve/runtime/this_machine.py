"""The machine that this process runs on: what its answers are computed with."""

from __future__ import annotations

import os

import numpy as np
import onnxruntime as ort
import tokenizers

from potstill.contract.system import machine
from potstill.contract.system.machine import Machine


def this_machine() -> Machine:
    """Versions of what computes an answer, and the CPU with the instruction sets that choose its kernels."""
    flags = machine.cpu()[1]
    return Machine(
        onnxruntime=ort.__version__,
        tokenizers=tokenizers.__version__,
        numpy=np.__version__,
        cpu=cpu_name(),
        flags=flags,
    )


def cpu_name() -> str:
    """The processor's model name, or at least its architecture."""
    return machine.cpu()[0] or os.uname().machine
