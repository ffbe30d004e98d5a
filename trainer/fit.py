"""The training loop: Hugging Face's `Trainer`, on features and target distributions, keeping the best epoch where one can tell."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import EvalPrediction, PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from contract.errors import UserError
from trainer import tokens
from trainer.calibrate import lowest_loss
from trainer.config import TrainConfig
from trainer.losses import Objective, find_objective
from trainer.recipe import find_recipe
from trainer.students import BATCH_SIZE, Encoder
from trainer.tokens import Feature

Progress = Callable[[str, int, int], None]


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

    def as_text(self) -> str:
        """`epoch 4 of 7, 10 planned (validation loss 0.0812)`."""
        n_run, loss = len(self.validation_losses), self.validation_losses[self.kept_epoch - 1]
        return f"epoch {self.kept_epoch} of {n_run}, {self.n_planned} planned (validation loss {loss:.4f})"


def fit(student: Encoder, training: Examples, validation: Examples, config: TrainConfig, progress: Progress | None) -> Fit:
    """Train the student in place and leave it with the weights of its best epoch, or of its last if too few texts could judge.

    Args:
        student: its model is changed.
        training, validation: at least one example each.
        progress: told ("train", steps done, steps planned).
    Raises:
        UserError: if the loss stops being a number.
    """
    n_epochs = config.n_epochs(len(training.features))
    epochs = KeepBest(config.patience) if len(validation.features) >= config.min_validation else KeepLast()
    callbacks: list[TrainerCallback] = [epochs] if progress is None else [epochs, ReportSteps(progress)]
    with tempfile.TemporaryDirectory() as work:  # the loop insists on a folder, and writes nothing to it
        loop = DistillationTrainer(  # it sets the seed of batches and dropout by itself
            objective=find_objective(config.loss),
            temperature=config.distill_temperature,
            model=student.model,
            args=_arguments(config, n_epochs, work),
            train_dataset=training.rows(),
            eval_dataset=validation.rows(),
            data_collator=lambda rows: _collate(rows, student.pad_id),
            optimizers=(_optimizer(student, config), None),
            compute_metrics=_calibrated_loss,
            callbacks=callbacks,
        )
        loop.remove_callback(PrinterCallback)  # it would print every measurement to standard output
        loop.train()
    if isinstance(epochs, KeepBest):
        student.model.load_state_dict(epochs.weights)
    return Fit(epochs.losses, epochs.kept_epoch, n_epochs)


class DistillationTrainer(Trainer):
    """Hugging Face's loop with the objective's loss."""

    def __init__(self, *, objective: Objective, temperature: float, **arguments: Any) -> None:
        """Args: objective gives the loss, with its temperature; the rest is Trainer's own."""
        super().__init__(**arguments)
        self.objective, self.temperature = objective, temperature

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """The objective's loss on one batch; raises UserError when it is not a finite number."""
        targets, weights = inputs.pop("labels"), inputs.pop("weight")
        outputs = model(**inputs)
        loss = (weights * self.objective.loss(outputs.logits, targets, self.temperature)).mean()
        if not torch.isfinite(loss):
            place = f"step {self.state.global_step + 1} of {self.state.max_steps}"
            raise UserError(f"the training loss became {loss.item()} at {place}; lower the learning rate")
        return (loss, outputs) if return_outputs else loss


class KeepLast(TrainerCallback):
    """Notes the validation loss of every epoch, and keeps the last."""

    def __init__(self) -> None:
        """Start with no epoch."""
        self.losses: list[float] = []

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
        self.weights: dict[str, Tensor] = {}

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


class ReportSteps(TrainerCallback):
    """Tells the caller how far the loop is."""

    def __init__(self, progress: Progress) -> None:
        """Args: progress is told (stage, done, total)."""
        self.progress = progress

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """One more step is done."""
        self.progress("train", state.global_step, state.max_steps)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """No step is left, early or not."""
        self.progress("train", state.global_step, state.global_step)


def _calibrated_loss(prediction: EvalPrediction) -> dict[str, float]:
    """Cross-entropy against the targets, in nats, at the temperature that makes it lowest.

    The temperature is fitted after training in any case; without it, the epoch in which a student is least sure
    of itself would win.
    """
    logits, targets = (np.asarray(values, dtype=np.float64) for values in (prediction.predictions, prediction.label_ids))
    return {"calibrated_loss": lowest_loss(logits, targets)[1]}


def _arguments(config: TrainConfig, n_epochs: int, work: str) -> TrainingArguments:
    """The loop's settings: batches of like length, one validation an epoch, no files, no reports to anyone."""
    return TrainingArguments(
        output_dir=work,
        num_train_epochs=n_epochs,
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=BATCH_SIZE,
        group_by_length=True,
        warmup_ratio=config.warmup_share,
        lr_scheduler_type="linear",
        max_grad_norm=1.0,
        eval_strategy="epoch",
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=config.seed,
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_pin_memory=torch.cuda.is_available(),
    )


def _optimizer(student: Encoder, config: TrainConfig) -> torch.optim.Optimizer:
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
    rate = config.learning_rate * find_recipe(student.family).rate
    groups = [{"params": body, "lr": rate}, {"params": head, "lr": rate * config.head_multiplier}]
    return torch.optim.AdamW(groups, weight_decay=config.weight_decay)


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
    return {**tokens.pad(features, pad_id), **judged}
