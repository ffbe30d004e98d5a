"""Quantization-aware training: the checkpoint learns to give its float answers while its products are rounded to int8.

Where rounding changes too many answers, a small change of the weights can help. During training every product of activations
with weights sees both rounded (fake quantization), gradients pass through the rounding unchanged, and the targets are the float
checkpoint's own probabilities, so no label is needed.

Source: Jacob et al. 2017, arXiv:1712.05877, section 3. Activation ranges are observed once and then fixed. Products are smoothed
as in `smoothing.py`, but each on its own; there, products that read the same tensor share a scale.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from potstill.export.graph import quiet, torch_threads
from potstill.export.quantization.rounding import LIMIT, MIN_MAGNITUDE, Float32Array
from potstill.export.quantization.smoothing import (
    ACTIVATION_STEPS,
    N_ROWS,
    ActivationStats,
    activation_range,
    best_scale,
)
from potstill.serve.runtime.tokenizer import Feeds

LEARNING_RATE = 5e-5  # at the start; it falls linearly to 0
MIN_STEPS = 100  # where one epoch has fewer
HELD_OUT_EVERY = 4  # every fourth batch is held out for validation
CHECK_EVERY = 20  # steps between two evaluations on the held-out batches


def train_against_int8(checkpoint: Path, batches: Sequence[Feeds], folder: Path, *, threads: int) -> None:
    """Train the checkpoint against int8 rounding and write it into an empty folder.

    Trains for one epoch, or for `MIN_STEPS` steps if that is more. Deterministic: the same call writes the same weights.

    Args:
        checkpoint: the trainer's folder; not changed.
        batches: unpadded texts, int64 [B, T] by input name; activation ranges come from them, too.
        folder: where to write.
        threads: of torch.
    """
    with quiet(), torch_threads(threads):  # transformers 5 shows a bar for loading, and one for writing
        model = AutoModelForSequenceClassification.from_pretrained(checkpoint, local_files_only=True, dtype=torch.float32).eval()
        inputs = [{name: torch.from_numpy(array) for name, array in batch.items()} for batch in batches]
        with torch.no_grad():
            wanted = [model(**batch).logits.softmax(dim=-1) for batch in inputs]
        with fake_quantized(model, inputs):
            _fit(model, inputs, wanted)
    shutil.copytree(checkpoint, folder, dirs_exist_ok=True)
    with quiet():
        model.save_pretrained(folder)


@contextmanager
def fake_quantized(model: PreTrainedModel, inputs: Sequence[dict[str, Tensor]]) -> Iterator[None]:
    """Fake-quantize, inside the block, the products that the export would quantize; the weights stay the model's own.

    Args:
        model: a classifier; changed by training inside the block only.
        inputs: batches of texts, int64 [B, T] by input name, that give the activation ranges.
    """
    products = _observed(model, inputs)
    hooks = []
    for linear, grid in products.items():
        parametrize.register_parametrization(linear, "weight", _FakeQuantizedWeight(grid.scale))
        hooks.append(linear.register_forward_pre_hook(grid.round_input))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for linear in products:
            parametrize.remove_parametrizations(linear, "weight", leave_parametrized=False)


@dataclass(frozen=True)
class _Grid:
    """The int8 grid of one product's activations."""

    scale: Tensor  # [H], divides the activations and multiplies the weights; see `smoothing.py`
    step: float
    zero: int  # zero point, 0 to 255

    def round_input(self, linear: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        """Round the activations [..., H] to the grid; gradients pass where they are within its range."""
        rounded = torch.fake_quantize_per_tensor_affine(inputs[0] / self.scale, self.step, self.zero, 0, ACTIVATION_STEPS)
        return rounded * self.scale


class _FakeQuantizedWeight(nn.Module):
    """A weight matrix rounded to int8, with one step per output channel."""

    def __init__(self, scale: Tensor) -> None:
        """Args: scale, [H], that of the activations."""
        super().__init__()
        self.register_buffer("scale", scale)

    def forward(self, weight: Tensor) -> Tensor:
        """Round the weights [N, H]."""
        scaled = weight * self.scale
        step = scaled.detach().abs().amax(dim=1).clamp_min(MIN_MAGNITUDE) / LIMIT
        zero = torch.zeros(len(step), dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(scaled, step, zero, 0, -LIMIT, LIMIT) / self.scale

    def right_inverse(self, weight: Tensor) -> Tensor:
        """The trained parameter is the unrounded weight [N, H]."""
        return weight


class _Observer:
    """Collects the range of each of a product's H input channels, and a sample of tokens."""

    def __init__(self, every: int) -> None:
        """Args: every, keep one token in so many."""
        self.every, self.first = every, 0
        self.low, self.high = np.array([np.inf], dtype=np.float32), np.array([-np.inf], dtype=np.float32)
        self.rows: list[Float32Array] = []

    def add(self, given: Tensor) -> None:
        """Add the activations [B, T, H] of one batch."""
        flat = given.reshape(-1, given.shape[-1]).numpy()
        self.low, self.high = np.minimum(self.low, flat.min(axis=0)), np.maximum(self.high, flat.max(axis=0))
        self.rows.append(flat[-self.first % self.every :: self.every].copy())
        self.first += len(flat)

    def grid(self, weights: Float32Array) -> _Grid:
        """The grid of the activations that these weights, float [H, N], multiply."""
        rows = np.concatenate(self.rows)[:N_ROWS]
        scale = best_scale(ActivationStats(self.low, self.high, rows, gram=np.zeros((0, 0))), weights)
        scale = np.ones_like(self.low) if scale is None else scale
        low, high = activation_range(self.low / scale, self.high / scale)
        step = (high - low) / ACTIVATION_STEPS or 1.0
        return _Grid(torch.from_numpy(scale.astype(np.float32)), step, round(-low / step))


def _observed(model: PreTrainedModel, inputs: Sequence[dict[str, Tensor]]) -> dict[nn.Linear, _Grid]:
    """Find the products that the export would quantize, those over all tokens [B, T, H], with their activation grids."""
    seen: dict[nn.Linear, _Observer] = {}
    every = max(1, sum(batch["input_ids"].numel() for batch in inputs) // N_ROWS)

    def note(linear: nn.Module, given: tuple[Tensor, ...]) -> None:
        if isinstance(linear, nn.Linear) and given[0].ndim == 3:
            seen.setdefault(linear, _Observer(every)).add(given[0])

    hooks = [module.register_forward_pre_hook(note) for module in model.modules() if isinstance(module, nn.Linear)]
    with torch.inference_mode():
        for batch in inputs:
            model(**batch)
    for hook in hooks:
        hook.remove()
    return {linear: one.grid(linear.weight.detach().numpy().T) for linear, one in seen.items()}


def _fit(model: PreTrainedModel, inputs: list[dict[str, Tensor]], wanted: list[Tensor]) -> None:
    """Match the wanted probabilities [B, C], and keep the weights with the least loss on the held-out batches.

    Those may be the initial weights: errors that rounding makes by chance cannot be trained away.
    """
    held = range(0, len(inputs), HELD_OUT_EVERY)
    training = [i for i in range(len(inputs)) if i not in held] or list(held)
    steps = max(MIN_STEPS, len(training))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=LEARNING_RATE, weight_decay=0.0)
    rng = np.random.default_rng(0)
    order: list[int] = []
    least, best = math.inf, model.state_dict()
    for step in range(steps + 1):
        if step % CHECK_EVERY == 0 or step == steps:
            with torch.inference_mode():
                loss = sum(float(_divergence(model, inputs[i], wanted[i])) * len(wanted[i]) for i in held)
            if loss < least:
                least, best = loss, {name: value.detach().clone() for name, value in model.state_dict().items()}
        if step < steps:
            order = order or rng.permutation(training).tolist()
            place = order.pop()
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * (1 - step / steps)
            optimizer.zero_grad()
            _divergence(model, inputs[place], wanted[place]).backward()
            optimizer.step()
    model.load_state_dict(best)


def _divergence(model: PreTrainedModel, inputs: dict[str, Tensor], wanted: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the model's probabilities from the wanted ones [B, C], in nats, mean over the batch."""
    return functional.kl_div(model(**inputs).logits.log_softmax(dim=-1), wanted, reduction="batchmean")
