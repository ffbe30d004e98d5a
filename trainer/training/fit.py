"""The training loop: Hugging Face's `Trainer`, on features and target distributions, keeping the best epoch where one can tell."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import EvalPrediction, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.modeling_outputs import SequenceClassifierOutput

from potstill.trainer.calibration.temperature import lowest_loss
from potstill.trainer.config import TrainConfig, find_recipe
from potstill.trainer.students import tokenizer
from potstill.trainer.students.encoder import Encoder
from potstill.trainer.students.tokenizer import Feature
from potstill.trainer.training.batches import logits_in_parts
from potstill.trainer.training.loop import Part, Progress, ReportSteps, ResumableTrainer, SaveStates, loop_arguments, run_loop
from potstill.trainer.training.losses import Objective, find_objective


@dataclass(frozen=True)
class Examples:
    """Features, their target distributions and what each text counts, one each."""

    features: list[Feature]
    targets: list[list[float]]  # [N][C]
    weights: list[float]  # [N], at least 0, not all 0

    def rows(self) -> list[dict[str, Any]]:
        """What the loop draws batches from; weights with mean 1, so that they change no learning rate."""
        mean = sum(self.weights) / len(self.weights)
        return [
            {**feature, "labels": target, "weight": weight / mean}
            for feature, target, weight in zip(self.features, self.targets, self.weights, strict=True)
        ]


@dataclass(frozen=True)
class Fit:
    """How a training run went."""

    validation_losses: list[float]  # one an epoch: see _calibrated_loss
    kept_epoch: int  # from 1; the weights are as they were after it
    n_planned: int  # epochs
    notes: tuple[str, ...] = ()  # what happened before

    def as_text(self) -> str:
        """`epoch 4 of 7, 10 planned (validation loss 0.0812)`."""
        n_run, loss = len(self.validation_losses), self.validation_losses[self.kept_epoch - 1]
        return f"epoch {self.kept_epoch} of {n_run}, {self.n_planned} planned (validation loss {loss:.4f})"


def fit(
    student: Encoder,
    training: Examples,
    validation: Examples,
    config: TrainConfig,
    progress: Progress | None = None,
    part: Part | None = None,
) -> Fit:
    """Train the student in place and leave it with the weights of its best epoch, or of its last if too few texts could judge.

    Args:
        student: its model is changed.
        training, validation: at least one example each.
        progress: told ("train", steps done, steps planned, loss of the last step).
        part: where states are kept and looked for, and who may ask the loop to stop; None: nowhere, nobody.
    Raises:
        UserError: if the loss stops being a number, or the disk refuses a state.
        StoppedError: if somebody asked for it; the same call goes on from there.
    """
    n_epochs = config.n_epochs(len(training.features))
    epochs = KeepBest(config.patience) if len(validation.features) >= config.min_validation else KeepLast()
    callbacks: list[TrainerCallback] = [epochs, *([SaveStates(part)] if part else [])]
    with tempfile.TemporaryDirectory() as scratch:  # the loop insists on a folder
        loop = DistillationTrainer(  # it sets the seed of batches and dropout by itself
            objective=find_objective(config.loss),
            temperature=config.distill_temperature,
            part=part,
            part_cost=find_recipe(config.family).part_cost,
            epochs=epochs,
            model=student.model,
            args=loop_arguments(config, scratch, num_train_epochs=n_epochs, eval_strategy="epoch", label_names=["labels"]),
            train_dataset=training.rows(),
            eval_dataset=sorted(validation.rows(), key=lambda row: len(row["input_ids"])),  # like lengths share a batch
            data_collator=lambda rows: _collate(rows, student.pad_id),
            optimizers=(_optimizer(student, *config.rates(len(training.features)), config.weight_decay), None),
            compute_metrics=_calibrated_loss,
            callbacks=callbacks,
        )
        if progress is not None:
            loop.add_callback(ReportSteps(progress, loop))
        run_loop(loop, part)
    if isinstance(epochs, KeepBest):
        student.model.load_state_dict(epochs.weights)
    return Fit(epochs.losses, epochs.kept_epoch, n_epochs)


class DistillationTrainer(ResumableTrainer):
    """Hugging Face's loop with the objective's loss."""

    def __init__(self, *, objective: Objective, temperature: float, epochs: KeepLast, **arguments: Any) -> None:
        """Args: objective gives the loss, with its temperature; epochs holds what a state must hold too; the rest is the loop's."""
        super().__init__(**arguments)
        self.objective, self.temperature, self.epochs = objective, temperature, epochs

    def beside_state(self) -> dict[str, Any]:
        """Losses of the epochs so far, and the weights of the best."""
        return {"losses": self.epochs.losses, "weights": self.epochs.weights}

    def take_beside_state(self, values: dict[str, Any]) -> None:
        """What :meth:`beside_state` gave."""
        self.epochs.losses[:], self.epochs.weights = values["losses"], values["weights"]

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """The objective's loss on one batch; raises UserError when it is not a finite number."""
        targets, weights = inputs.pop("labels"), inputs.pop("weight")
        logits = logits_in_parts(model, inputs, self.part_cost)
        loss = (weights * self.objective.loss(logits, targets, self.temperature)).mean()
        self.note(loss)
        return (loss, SequenceClassifierOutput(logits=logits)) if return_outputs else loss


class KeepLast(TrainerCallback):
    """Notes the validation loss of every epoch, and keeps the last."""

    def __init__(self) -> None:
        """Start with no epoch."""
        self.losses: list[float] = []
        self.weights: dict[str, Tensor] = {}  # none are held: the model has them

    @property
    def kept_epoch(self) -> int:
        """From 1."""
        return len(self.losses)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, *, metrics: dict[str, float], **_: Any
    ) -> None:
        """One more epoch is done."""
        self.losses.append(metrics["eval_calibrated_loss"])


class KeepBest(KeepLast):
    """Holds the weights of the epoch with the lowest validation loss, and stops when no epoch has beaten it for a while.

    They are held in memory: files of every epoch would only fill a disk.
    """

    def __init__(self, patience: int) -> None:
        """Args: patience in epochs."""
        super().__init__()
        self.patience = patience

    @property
    def kept_epoch(self) -> int:
        """From 1; the first of equals."""
        return 1 + self.losses.index(min(self.losses))

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any) -> None:
        """Copy the weights if this epoch is the best so far."""
        super().on_evaluate(args, state, control, **more)
        if self.kept_epoch == len(self.losses):
            self.weights = {name: tensor.detach().to("cpu", copy=True) for name, tensor in more["model"].state_dict().items()}
        if len(self.losses) - self.kept_epoch >= self.patience:
            control.should_training_stop = True
            control.should_save = False  # nothing is left to go on with


def _calibrated_loss(prediction: EvalPrediction) -> dict[str, float]:
    """Cross-entropy against the targets, in nats, at the temperature that makes it lowest.

    The temperature is fitted after training in any case; without it, the epoch in which a student is least sure
    of itself would win.
    """
    logits, targets = (np.asarray(values, dtype=np.float64) for values in (prediction.predictions, prediction.label_ids))
    return {"calibrated_loss": lowest_loss(logits, targets)[1]}


def _optimizer(student: Encoder, rate: float, head_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW with a higher learning rate for what starts from nothing: the head, and a pooler under it.

    An encoder's word, position and type embeddings stay as they are: most of their rows would get no gradient from a small set of
    texts, and in a small encoder they are half of what a step would have to update.
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
    """The parameters below the first layer, none where the family trains them too."""
    if not find_recipe(student.family).freezes_embeddings:
        return []
    embeddings = getattr(student.model.base_model, "embeddings", student.model.get_input_embeddings())
    return list(embeddings.parameters())


def _collate(rows: list[dict[str, Any]], pad_id: int) -> dict[str, Tensor]:
    """Rows as tensors: int64 [B, T] by input name, the targets, float [B, C], and their weights, float [B]."""
    features = [{name: values for name, values in row.items() if name not in ("labels", "weight")} for row in rows]
    judged = {name: torch.tensor([row[name] for row in rows], dtype=torch.float32) for name in ("labels", "weight")}
    return {**tokenizer.pad(features, pad_id), **judged}
