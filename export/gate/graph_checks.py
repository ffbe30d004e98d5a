"""Check that the float graph answers like torch, and that int8 products still run in int8 once onnxruntime has loaded the graph.

A session rewrites its graph. A product that it leaves with dequantized weights, or turns into `MatMulNBits`, is slower than float,
and no error says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from transformers import AutoModelForSequenceClassification

from potstill.contract.errors import UserError
from potstill.contract.questions.head import Head
from potstill.contract.questions.probabilities import joint_probs
from potstill.export.config import DYNAMIC
from potstill.export.graph import quiet, torch_threads
from potstill.serve.runtime.classifier import softmax
from potstill.serve.runtime.denormals import thread_left_as_it_was
from potstill.serve.runtime.session import session_options
from potstill.serve.runtime.tokenizer import Feeds

STATIC_PRODUCTS = ("MatMulIntegerToFloat",)
DYNAMIC_PRODUCTS = ("MatMulIntegerToFloat", "DynamicQuantizeMatMul")
WEIGHT_ONLY = "MatMulNBits"
PARITY_TEXTS = 128  # a wrong export is wrong on every text, so a few are enough
PARITY = 1e-3  # largest accepted difference of a probability from torch


def loaded_operators(model: onnx.ModelProto, scratch: Path) -> dict[str, int]:
    """Count the operators of the graph as onnxruntime loads it, by type, in order of name.

    Args:
        model: any graph that a session can load.
        scratch: a folder for intermediate files.
    """
    source, loaded = scratch / "source.onnx", scratch / "loaded.onnx"
    onnx.save(model, source)
    options = session_options(threads=1)
    options.optimized_model_filepath = str(loaded)
    with thread_left_as_it_was():
        ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    counts = Counter(node.op_type for node in onnx.load(loaded).graph.node)
    source.unlink()
    loaded.unlink()
    return dict(sorted(counts.items()))


def wrong_products(variant: str, operators: dict[str, int], n_products: int) -> str:
    """Explain which products do not run in int8 in the loaded graph; empty if all do.

    Args:
        variant: name of an int8 form.
        operators: of the loaded graph, see :func:`loaded_operators`.
        n_products: number of products with constant weights in the float graph.
    """
    kinds = DYNAMIC_PRODUCTS if variant == DYNAMIC else STATIC_PRODUCTS
    found = sum(operators.get(kind, 0) for kind in kinds)
    weight_only = operators.get(WEIGHT_ONLY, 0)
    if found == n_products and not weight_only:
        return ""
    left = f"{weight_only} became {WEIGHT_ONLY}, {max(0, n_products - found - weight_only)} stayed float"
    return f"{found} of {n_products} products run in int8 when loaded ({left}), which is slower than float"


def torch_logits(checkpoint: Path, feeds: Sequence[Feeds]) -> NDArray[np.float32]:
    """Run the checkpoint in torch, each text alone; float32 [N, C]."""
    with quiet():
        model = AutoModelForSequenceClassification.from_pretrained(checkpoint, local_files_only=True, dtype=torch.float32).eval()
    with torch_threads(1), torch.inference_mode():
        rows = [model(**{name: torch.from_numpy(value) for name, value in feed.items()}).logits.numpy() for feed in feeds]
    return np.concatenate(rows)


def check_parity(
    checkpoint: Path, feeds: Sequence[Feeds], logits: NDArray[np.float32], heads: Sequence[Head] | None = None
) -> float:
    """Compare the float graph with torch on the first texts; returns the largest difference of a probability.

    Args:
        checkpoint: the trainer's folder.
        feeds: N texts, int64 [1, T] by input name.
        logits: those of the float graph, float32 [N, C].
        heads: of several questions; None: one choice.
    Raises:
        UserError: if the difference is above `PARITY`.
    """
    expected = torch_logits(checkpoint, feeds[:PARITY_TEXTS])
    found = logits[:PARITY_TEXTS]
    pair = [softmax(one, 1.0) if heads is None else joint_probs(heads, one) for one in (expected, found)]
    change = float(np.abs(pair[0] - pair[1]).max())
    if not change <= PARITY:  # this way round, NaN is refused too
        raise UserError(
            f"{checkpoint}: its float graph differs from torch by {change:.3g} in a probability; at most {PARITY:g} is allowed"
        )
    return change
