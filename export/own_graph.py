"""The float ONNX graph of a student whose network is ours, which optimum does not know."""

from __future__ import annotations

import io
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

OPSET = 17  # the first with LayerNormalization as one operator
EXAMPLE_LENGTH = 21  # ids of the traced text; any would do, and this one is no multiple of a block


class _Positional(nn.Module):
    """The network with its inputs in a row and its logits alone, as the tracer wants it."""

    def __init__(self, model: nn.Module, names: list[str]) -> None:
        """Args: names of the inputs in order."""
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *values: Tensor) -> Tensor:
        """Logits float [B, C]."""
        logits: Tensor = self.model(**dict(zip(self.names, values, strict=True))).logits
        return logits


def export_own(checkpoint: Path) -> onnx.ModelProto:
    """The graph: `input_ids` and `attention_mask` int64 [B, T] in, with `token_type_ids` where there are targets; `logits` out.

    Args:
        checkpoint: a folder with one of the networks of `networks/`, which are registered.
    Raises:
        OSError: if it cannot be read.
    """
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint, local_files_only=True, dtype=torch.float32).eval()
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if getattr(model.config, "pair", False) else [])]
    example = {name: torch.zeros((2, EXAMPLE_LENGTH), dtype=torch.int64) for name in names}
    example["attention_mask"] += 1
    file = io.BytesIO()
    torch.onnx.export(
        _Positional(model, names),
        tuple(example.values()),
        file,
        input_names=names,
        output_names=["logits"],
        dynamic_axes={name: {0: "batch", 1: "tokens"} for name in names} | {"logits": {0: "batch"}},
        opset_version=OPSET,
        dynamo=False,
    )
    return onnx.load_model_from_string(file.getvalue())
