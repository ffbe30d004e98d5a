"""Fit a student to target distributions with Hugging Face's `Trainer`, keeping the best epoch.

Axes: N texts, B texts in a batch, T tokens, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import EvalPrediction, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.modeling_outputs import SequenceClassifierOutput

from potstill.contract.files import atomic
from potstill.trainer.calibration.temperature import minimize_nll
from potstill.trainer.config import TrainConfig, find_recipe
from potstill.trainer.students import tokenizer
from potstill.trainer.students.encoder import Encoder
from potstill.trainer.students.tokenizer import EncodedText
from potstill.trainer.training.batches import logits_in_parts
from potstill.trainer.training.loop import (
    ReportSteps,
    ResumableTrainer,
    SaveStates,
    StateFolder,
    TrainProgress,
    loop_arguments,
    run_loop,
)
from potstill.trainer.training.losses import find_objective


@dataclass(frozen=True)
class WeightedExamples:
    """Encoded texts with their target distributions and weights."""

    features: list[EncodedText]  # [N]
    targets: list[list[float]]  # [N][C], or what else the goal takes
    weights: list[float]  # [N], at least 0, not all 0

    def rows(self) -> list[dict[str, Any]]:
        """The examples as the loop takes them; weights are scaled to mean 1, so that they do not change the learning rate."""
        mean = sum(self.weights) / len(self.weights)
        return [
            {**feature, "labels": target, "weight": weight / mean}
            for feature, target, weight in zip(self.features, self.targets, self.weights, strict=True)
        ]


@dataclass(frozen=True)
class Goal:
    """What logits are held against in training, and on the held-out texts after each epoch."""

    loss: Callable[[Tensor, Tensor], Tensor]  # (logits [B, C], targets [B, ...]) -> [B]
    held_out_loss: Callable[[NDArray[np.float64], NDArray[np.float64]], float]  # the same for all held-out texts -> in nats
    n_questions: int = 1  # that the targets answer


def one_choice(config: TrainConfig) -> Goal:
    """The configured objective; held out, cross-entropy at the temperature that makes it lowest.

    A temperature is fitted after training anyway; without it the least confident epoch would win.
    """
    objective, temperature = find_objective(config.loss), config.distill_temperature
    return Goal(
        loss=lambda logits, targets: objective.loss(logits, targets, temperature),
        held_out_loss=lambda logits, targets: minimize_nll(logits, targets)[1],
    )


@dataclass(frozen=True)
class FitResult:
    """The course of a training."""

    validation_losses: list[float]  # one for each epoch: the goal's held-out loss
    kept_epoch: int  # from 1; the student has the weights after it
    n_planned: int  # epochs
    notes: tuple[str, ...] = ()  # lines on initial weights and pretraining

    def as_text(self) -> str:
        """`epoch 4 of 7, 10 planned (validation loss 0.0812)`."""
        n_run, loss = len(self.validation_losses), self.validation_losses[self.kept_epoch - 1]
        return f"epoch {self.kept_epoch} of {n_run}, {self.n_planned} planned (validation loss {loss:.4f})"


def fit(
    student: Encoder,
    training: WeightedExamples,
    validation: WeightedExamples,
    config: TrainConfig,
    progress: TrainProgress | None = None,
    states: StateFolder | None = None,
    goal: Goal | None = None,
) -> FitResult:
    """Train the student in place, and leave it with the weights of its best epoch, or of its last if too few texts could choose.

    Args:
        student: its model is changed.
        training, validation: at least one example each.
        progress: called with ("train", steps done, steps planned, loss of the last step).
        states: where states are kept and looked for; None: nowhere, and no signal stops the loop.
        goal: what the targets are for; None: one choice, by the configured objective.
    Raises:
        UserError: if the loss stops being a number, or the disk refuses a state.
        StoppedError: if a signal came; the same call goes on from there.
    """
    goal = goal or one_choice(config)
    n_epochs = config.n_epochs(len(training.features), student.model.config.num_labels, goal.n_questions)
    epochs = KeepBest(config.patience) if len(validation.features) >= config.min_validation else KeepLast()
    callbacks: list[TrainerCallback] = [epochs, *([SaveStates(states)] if states else [])]  # in this order, see SaveStates
    with atomic.scratch("potstill-train") as scratch:  # the loop insists on a folder
        loop = DistillationTrainer(  # it sets the seeds of batches and dropout
            goal=goal,
            states=states,
            part_cost=find_recipe(config.family).part_cost,
            epochs=epochs,
            model=student.model,
            args=loop_arguments(config, str(scratch), num_train_epochs=n_epochs, eval_strategy="epoch", label_names=["labels"]),
            train_dataset=training.rows(),
            eval_dataset=sorted(validation.rows(), key=lambda row: len(row["input_ids"])),  # similar lengths share a batch
            data_collator=lambda rows: _collate(rows, student.pad_id),
            optimizers=(_optimizer(student, *config.rates(len(training.features)), config.weight_decay), None),
            compute_metrics=lambda prediction: _held_out_loss(goal, prediction),
            callbacks=callbacks,
        )
        if progress is not None:
            loop.add_callback(ReportSteps(progress, loop))
        run_loop(loop, states)
    if isinstance(epochs, KeepBest):
        student.model.load_state_dict(epochs.weights)
    return FitResult(epochs.losses, epochs.kept_epoch, n_epochs)


class DistillationTrainer(ResumableTrainer):
    """The loop with the goal's loss."""

    def __init__(self, *, goal: Goal, epochs: KeepLast, **arguments: Any) -> None:
        """Args: epochs, whose losses and weights go into every state; the rest is the loop's."""
        super().__init__(**arguments)
        self.goal, self.epochs = goal, epochs

    def extra_state(self) -> dict[str, Any]:
        """The losses of the epochs so far, and the weights of the best."""
        return {"losses": self.epochs.losses, "weights": self.epochs.weights}

    def load_extra_state(self, values: dict[str, Any]) -> None:
        """Take what :meth:`extra_state` returned."""
        self.epochs.losses[:], self.epochs.weights = values["losses"], values["weights"]

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """The weighted loss of a batch, a scalar; raises UserError if not finite. Args: inputs int64 [B, T], labels [B, C]."""
        targets, weights = inputs.pop("labels"), inputs.pop("weight")
        logits = logits_in_parts(model, inputs, self.part_cost)
        loss = (weights * self.goal.loss(logits, targets)).mean()
        self.note(loss)
        return (loss, SequenceClassifierOutput(logits=logits)) if return_outputs else loss


class KeepLast(TrainerCallback):
    """Record the validation loss of every epoch, and keep the last."""

    def __init__(self) -> None:
        """Start with no epoch."""
        self.losses: list[float] = []
        self.weights: dict[str, Tensor] = {}  # empty: the model has them

    @property
    def kept_epoch(self) -> int:
        """The last epoch, from 1."""
        return len(self.losses)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, *, metrics: dict[str, float], **_: Any
    ) -> None:
        """Record an epoch's loss. Args: metrics by name, eval_calibrated_loss in nats."""
        self.losses.append(metrics["eval_calibrated_loss"])


class KeepBest(KeepLast):
    """Hold the weights of the epoch with the lowest validation loss in memory, and stop after `patience` worse ones."""

    def __init__(self, patience: int) -> None:
        """Args: patience, epochs without a lower loss after which training stops."""
        super().__init__()
        self.patience = patience

    @property
    def kept_epoch(self) -> int:
        """The epoch with the lowest loss, from 1; the first of equals."""
        return 1 + self.losses.index(min(self.losses))

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any) -> None:
        """Copy the weights if this epoch is the best so far."""
        super().on_evaluate(args, state, control, **more)
        if self.kept_epoch == len(self.losses):
            self.weights = {name: tensor.detach().to("cpu", copy=True) for name, tensor in more["model"].state_dict().items()}
        if len(self.losses) - self.kept_epoch >= self.patience:
            control.should_training_stop = True
            control.should_save = False  # training is over: no state is needed


def _held_out_loss(goal: Goal, prediction: EvalPrediction) -> dict[str, float]:
    """The goal's loss on the held-out texts, in nats."""
    logits, targets = (np.asarray(values, dtype=np.float64) for values in (prediction.predictions, prediction.label_ids))
    return {"calibrated_loss": goal.held_out_loss(logits, targets)}


def _optimizer(student: Encoder, rate: float, head_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW with a higher learning rate for randomly initialized weights: the head, and a pooler under it.

    An encoder's word, position and type embeddings are frozen: most of their rows would get no gradient from a small set of texts,
    and in a small encoder they are half of the weights that a step updates.
    """
    for parameter in _embeddings(student):
        parameter.requires_grad_(False)
    prefix = f"{student.model.base_model_prefix}."
    named = [(name, p) for name, p in student.model.named_parameters() if p.requires_grad]
    head = [p for name, p in named if not name.startswith(prefix) or ".pooler." in name]
    body = [p for name, p in named if name.startswith(prefix) and ".pooler." not in name]
    groups = [{"params": body, "lr": rate}, {"params": head, "lr": head_rate}]
    return torch.optim.AdamW(groups, weight_decay=weight_decay)


def _embeddings(student: Encoder) -> Sequence[torch.nn.Parameter]:
    """The parameters below the first layer; none if the family trains them."""
    if not find_recipe(student.family).freezes_embeddings:
        return []
    embeddings = getattr(student.model.base_model, "embeddings", student.model.get_input_embeddings())
    return list(embeddings.parameters())


def _collate(rows: list[dict[str, Any]], pad_id: int) -> dict[str, Tensor]:
    """A batch: int64 [B, T] by input name, labels float [B, C], weight float [B]."""
    features = [{name: values for name, values in row.items() if name not in ("labels", "weight")} for row in rows]
    targets = {name: torch.tensor([row[name] for row in rows], dtype=torch.float32) for name in ("labels", "weight")}
    return {**tokenizer.pad(features, pad_id), **targets}
