"""What onnxruntime makes of a graph when it loads it: proof that int8 products run in int8.

The session rewrites a graph. A product that it leaves as dequantized weights, or turns into `MatMulNBits`, is slower than float,
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
from potstill.export.config import DYNAMIC
from potstill.export.graph import quiet, torch_threads
from potstill.serve.runtime.classifier import softmax
from potstill.serve.runtime.session import session_options
from potstill.serve.runtime.tokenizer import Feeds

STATIC_PRODUCTS = ("MatMulIntegerToFloat",)
DYNAMIC_PRODUCTS = ("MatMulIntegerToFloat", "DynamicQuantizeMatMul")
WEIGHT_ONLY = "MatMulNBits"


def loaded_operators(model: onnx.ModelProto, scratch: Path) -> dict[str, int]:
    """How many nodes of each kind the loaded graph has, in order of name.

    Args:
        model: any graph that a session can load.
        scratch: a folder for intermediate files.
    """
    source, loaded = scratch / "source.onnx", scratch / "loaded.onnx"
    onnx.save(model, source)
    options = session_options(threads=1)
    options.optimized_model_filepath = str(loaded)
    ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    counts = Counter(node.op_type for node in onnx.load(loaded).graph.node)
    source.unlink()
    loaded.unlink()
    return dict(sorted(counts.items()))


def wrong_products(variant: str, operators: dict[str, int], n_products: int) -> str:
    """Why the loaded graph does not compute as meant, or nothing.

    Args:
        variant: an int8 form.
        operators: of the loaded graph, see :func:`loaded_operators`.
        n_products: products of activations with weights in the float graph.
    """
    kinds = DYNAMIC_PRODUCTS if variant == DYNAMIC else STATIC_PRODUCTS
    found = sum(operators.get(kind, 0) for kind in kinds)
    weight_only = operators.get(WEIGHT_ONLY, 0)
    if found == n_products and not weight_only:
        return ""
    left = f"{weight_only} became {WEIGHT_ONLY}, {max(0, n_products - found - weight_only)} stayed float"
    return f"{found} of {n_products} products run in int8 when loaded ({left}), which is slower than float"


PARITY_TEXTS = 128  # an export is wrong on all texts or on none, so torch need not answer more
PARITY = 1e-3  # largest accepted difference of a probability


def torch_logits(checkpoint: Path, feeds: Sequence[Feeds]) -> NDArray[np.float32]:
    """The checkpoint's own answers, float32 [N, C]."""
    with quiet():
        model = AutoModelForSequenceClassification.from_pretrained(checkpoint, local_files_only=True, dtype=torch.float32).eval()
    with torch_threads(1), torch.inference_mode():
        rows = [model(**{name: torch.from_numpy(value) for name, value in feed.items()}).logits.numpy() for feed in feeds]
    return np.concatenate(rows)


def check_parity(checkpoint: Path, feeds: Sequence[Feeds], found: NDArray[np.float32]) -> float:
    """The largest difference of a probability between torch and the float graph, on the first texts.

    Raises:
        UserError: if it is not small.
    """
    expected = torch_logits(checkpoint, feeds[:PARITY_TEXTS])
    change = float(np.abs(softmax(expected, 1.0) - softmax(found[:PARITY_TEXTS], 1.0)).max())
    if not change <= PARITY:  # this way round, NaN is refused too
        raise UserError(
            f"{checkpoint}: its float graph differs from torch by {change:.3g} in a probability; at most {PARITY:g} is right"
        )
    return change
