"""Masked pretraining before any label is seen: ids of a text are masked, and the student's body learns to predict them.

The ids are tokens or bytes, see `masking.py`. Axes: B texts in a batch, T ids.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import TrainingArguments

from potstill.contract.files import atomic
from potstill.trainer.config import TrainConfig, find_recipe
from potstill.trainer.students import tokenizer
from potstill.trainer.students.encoder import BATCH_SIZE, Encoder
from potstill.trainer.students.tokenizer import EncodedText
from potstill.trainer.training.batches import in_parts
from potstill.trainer.training.loop import (
    ReportSteps,
    ResumableTrainer,
    SaveStates,
    StateFolder,
    TrainProgress,
    loop_arguments,
    run_loop,
)
from potstill.trainer.training.resume import PRETRAINING, SEAL_FILE, disk_refusals, seal

# safetensors refuses weights that body and head share; transformers 5 has no other way.
_SHARED_WEIGHTS = {"save_safetensors": False} if "save_safetensors" in TrainingArguments.__dataclass_fields__ else {}
IGNORED = -100  # the target of an id that is not predicted; torch's cross-entropy skips it
TIMES_BATCH = 2  # batch size relative to training: only some of each text's ids are predicted
HELD_OUT_SEED = 0  # held-out texts get the same masks before and after
# (ids, attention mask, generator) to (ids with some masked, the masked ids and IGNORED elsewhere), all int64 [B, T]
MaskIds = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class MaskedObjective:
    """A masking of ids, and the model that predicts them."""

    predictor: nn.Module  # (input_ids, attention_mask, targets, perhaps token_type_ids) to the mean loss in nats; holds the body
    mask_ids: MaskIds
    groups: list[dict[str, Any]]  # parameters with their peak learning rates, as an optimizer takes them
    unit: Literal["token", "byte"]
    note: str = ""


@dataclass(frozen=True)
class PretrainingResult:
    """The course of masked pretraining."""

    stage: str
    n_steps: int
    n_texts: int
    n_held_out: int
    unit: str
    before: float  # loss on the held-out texts, nats a unit
    after: float
    note: str = ""

    def as_text(self) -> str:
        """A line for the report."""
        return (
            f"{self.stage}: {self.n_steps} steps over {self.n_texts} texts with masked {self.unit}s{self.note}; loss on "
            f"{self.n_held_out} held-out texts {self.before:.3f} nats a {self.unit} before, {self.after:.3f} after"
        )


@dataclass(frozen=True)
class PretrainingTexts:
    """Encoded texts to learn from, and others to measure the loss on; at least one each."""

    training: list[EncodedText]
    held_out: list[EncodedText]


def pretrain(
    student: Encoder,
    objective: MaskedObjective,
    texts: PretrainingTexts,
    config: TrainConfig,
    progress: TrainProgress | None,
    states: StateFolder | None,
) -> PretrainingResult:
    """Pretrain the student's body in place for the configured number of steps.

    Args:
        states: those of the training that follows; states and final weights of pretraining are kept beside them. None: nowhere.
    Raises:
        UserError: if the loss stops being a number, or the disk refuses a state.
        StoppedError: if a signal came; the same call goes on from there.
    """
    own = replace(states, name=states.name + PRETRAINING) if states else None
    done = own.folder / "done" / SEAL_FILE if own else None
    if done and done.exists():
        found = torch.load(done, weights_only=True)
        student.model.load_state_dict(found.pop("weights"))
        before, after = found["before"], found["after"]
    else:
        before, after = _run(student, objective, texts, config, progress, own)
        if own:
            _keep(own, student, before, after)
    student.model.requires_grad_(True)
    n_texts, n_held_out = len(texts.training), len(texts.held_out)
    stage, n_steps = config.pretraining
    return PretrainingResult(stage, n_steps, n_texts, n_held_out, objective.unit, before, after, objective.note)


def _run(
    student: Encoder,
    objective: MaskedObjective,
    texts: PretrainingTexts,
    config: TrainConfig,
    progress: TrainProgress | None,
    states: StateFolder | None,
) -> tuple[float, float]:
    """(held-out loss before, after) the loop."""
    stage, n_steps = config.pretraining
    larger = replace(config, batch_size=TIMES_BATCH * config.batch_size)
    with atomic.scratch("potstill-train") as scratch:  # the loop insists on a folder
        loop = MaskedTrainer(
            mask_ids=objective.mask_ids,
            states=states,
            part_cost=find_recipe(config.family).part_cost,
            stage=stage,
            model=objective.predictor,
            args=loop_arguments(larger, str(scratch), max_steps=n_steps, **_SHARED_WEIGHTS),
            train_dataset=texts.training,
            data_collator=lambda rows: tokenizer.pad(rows, student.pad_id),
            optimizers=(torch.optim.AdamW(objective.groups, weight_decay=config.weight_decay), None),
            callbacks=[SaveStates(states)] if states else [],
        )
        if progress is not None:
            loop.add_callback(ReportSteps(progress, loop))
        if not (states and states.work.latest(states.name)):
            loop.before = held_out_loss(objective, texts.held_out, student.pad_id)
        run_loop(loop, states)
    return loop.before, held_out_loss(objective, texts.held_out, student.pad_id)


class MaskedTrainer(ResumableTrainer):
    """The loop that masks ids of its batches; seed and step alone decide which."""

    def __init__(self, *, mask_ids: MaskIds, **arguments: Any) -> None:
        """Args: mask_ids, as in MaskedObjective; the rest is the loop's."""
        super().__init__(**arguments)
        self.mask_ids, self.before = mask_ids, float("nan")

    def extra_state(self) -> dict[str, Any]:
        """The held-out loss at the start."""
        return {"before": self.before}

    def load_extra_state(self, values: dict[str, Any]) -> None:
        """Take what :meth:`extra_state` returned."""
        self.before = values["before"]

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        """Save the weights, each that body and head share once where the format is safetensors; loading fills both places."""
        state = self.model.state_dict() if state_dict is None else state_dict
        if not _SHARED_WEIGHTS:
            state = dict({tensor.data_ptr(): (name, tensor) for name, tensor in reversed(state.items())}.values())
        super()._save(output_dir, state)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """Say nothing of the second names of shared weights, which are missing on purpose."""

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """Mean loss of a batch's masked ids in nats, a scalar; raises UserError if not finite. Args: inputs int64 [B, T]."""
        step = self.args.process_index + self.args.world_size * self.state.global_step
        draw = torch.Generator().manual_seed(self.args.seed * 1_000_003 + step)
        ids, targets = self.mask_ids(inputs.pop("input_ids"), inputs["attention_mask"], draw)
        loss = loss_in_parts(model, {"input_ids": ids, "targets": targets, **inputs}, self.part_cost)
        self.note(loss)
        return (loss, None) if return_outputs else loss


def loss_in_parts(predictor: nn.Module, inputs: dict[str, Tensor], part_cost: float) -> Tensor:
    """Mean loss of all masked ids of a batch, in nats, a scalar.

    Args:
        predictor, inputs: as in :class:`MaskedObjective`; int64 [B, T] by name.
        part_cost: in tokens, as in `training/batches.py`.
    """
    n_masked = (inputs["targets"] != IGNORED).sum()
    counted = ((part, (part["targets"] != IGNORED).sum()) for _, part in in_parts(inputs, part_cost))
    return torch.stack([predictor(**part) * n / n_masked for part, n in counted if n]).sum()


def held_out_loss(objective: MaskedObjective, features: Sequence[EncodedText], pad_id: int) -> float:
    """Mean loss of masked ids, in nats; the same ids are masked every time."""
    predictor = objective.predictor.eval()
    device = next(predictor.parameters()).device
    draw = torch.Generator().manual_seed(HELD_OUT_SEED)
    by_length = sorted(features, key=lambda feature: len(feature["input_ids"]))
    total, n_masked = 0.0, 0
    with torch.inference_mode():
        for start in range(0, len(by_length), BATCH_SIZE):
            batch = tokenizer.pad(by_length[start : start + BATCH_SIZE], pad_id)
            ids, targets = objective.mask_ids(batch.pop("input_ids"), batch["attention_mask"], draw)
            batch |= {"input_ids": ids, "targets": targets}
            n = int((targets != IGNORED).sum())
            total += n * predictor(**{name: tensor.to(device) for name, tensor in batch.items()}).item()
            n_masked += n
    return total / n_masked


def _keep(states: StateFolder, student: Encoder, before: float, after: float) -> None:
    """Keep the final weights, and remove the states before them; raises UserError if the disk refuses."""
    if not states.work.writes:
        return
    states.work.claim()
    folder = states.folder / "done"
    with disk_refusals(folder, "the pretrained student"):
        folder.mkdir(parents=True, exist_ok=True)
        seal(folder, {"weights": student.model.state_dict(), "before": before, "after": after})
        for older in states.folder.glob("checkpoint-*"):
            shutil.rmtree(older)
