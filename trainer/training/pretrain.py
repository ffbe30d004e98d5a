"""Masked reading before any label is seen: parts of texts are hidden, and the body of a student learns to guess them.

What a part is, and how it is hidden and guessed, differs: `masked_tokens.py` for encoders, `masked_bytes.py` for charformers.

Axes: B texts in a batch, T ids.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from potstill.trainer.config import TrainConfig, find_recipe
from potstill.trainer.students import tokenizer
from potstill.trainer.students.encoder import BATCH_SIZE, Encoder
from potstill.trainer.students.tokenizer import Feature
from potstill.trainer.training.batches import in_parts
from potstill.trainer.training.loop import Part, Progress, ReportSteps, ResumableTrainer, SaveStates, loop_arguments, run_loop
from potstill.trainer.training.resume import PRETRAINING, SEAL_FILE, disk_refusals, seal

NOTHING = -100  # an id that is not asked about, as torch's cross-entropy wants it
TIMES_BATCH = 2  # texts of a step against those of training: only a part of each is asked about
HELD_OUT_SEED = 0  # the held-out texts hide the same parts before and after
Hide = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Reading:
    """What is hidden, and who guesses it."""

    guesser: nn.Module  # (input_ids, attention_mask, asked, perhaps token_type_ids) to the mean loss, in nats; trains the body
    hide: Hide  # (ids, mask, generator) to (ids with parts hidden, the hidden ids and `NOTHING` elsewhere), int64 [B, T]
    groups: list[dict[str, Any]]  # parameters with their highest learning rates, as an optimizer takes them
    unit: str  # what the loss is counted by
    note: str = ""


@dataclass(frozen=True)
class Pretraining:
    """How masked reading went."""

    stage: str
    n_steps: int
    n_texts: int
    n_held_out: int
    unit: str
    before: float  # nats a unit on the held-out texts
    after: float
    note: str = ""

    def as_text(self) -> str:
        """One line."""
        return (
            f"{self.stage}: {self.n_steps} steps over {self.n_texts} texts with hidden {self.unit}s{self.note}; loss on "
            f"{self.n_held_out} held-out texts {self.before:.3f} nats a {self.unit} before, {self.after:.3f} after"
        )


@dataclass(frozen=True)
class Texts:
    """Features to learn from, and others to measure on; at least one each."""

    training: list[Feature]
    held_out: list[Feature]


def pretrain(
    student: Encoder, reading: Reading, texts: Texts, config: TrainConfig, progress: Progress | None, part: Part | None
) -> Pretraining:
    """Train the student's body in place for the configured steps.

    Args:
        part: the training that follows. States and, when all is done, the weights are kept beside its own, so that a run that was
            killed goes on from there; None: nowhere.
    Raises:
        UserError: if the loss stops being a number, or the disk refuses a state.
        StoppedError: if somebody asked for it; the same call goes on from there.
    """
    own = replace(part, name=part.name + PRETRAINING) if part else None
    done = own.folder / "done" / SEAL_FILE if own else None
    if done and done.exists():
        found = torch.load(done, weights_only=True)
        student.model.load_state_dict(found.pop("weights"))
        before, after = found["before"], found["after"]
    else:
        before, after = _read(student, reading, texts, config, progress, own)
        if own:
            _keep(own, student, before, after)
    student.model.requires_grad_(True)
    n_texts, n_held_out = len(texts.training), len(texts.held_out)
    stage, n_steps = config.masked_reading
    return Pretraining(stage, n_steps, n_texts, n_held_out, reading.unit, before, after, reading.note)


def _read(
    student: Encoder, reading: Reading, texts: Texts, config: TrainConfig, progress: Progress | None, part: Part | None
) -> tuple[float, float]:
    """Held-out loss before and after the loop."""
    stage, n_steps = config.masked_reading
    larger = replace(config, batch_size=TIMES_BATCH * config.batch_size)
    with tempfile.TemporaryDirectory() as scratch:  # the loop insists on a folder
        loop = MaskedTrainer(
            hide=reading.hide,
            part=part,
            part_cost=find_recipe(config.family).part_cost,
            stage=stage,
            model=reading.guesser,
            # weights that body and head share are no matter to torch's own format
            args=loop_arguments(larger, scratch, max_steps=n_steps, save_safetensors=False),
            train_dataset=texts.training,
            data_collator=lambda rows: tokenizer.pad(rows, student.pad_id),
            optimizers=(torch.optim.AdamW(reading.groups, weight_decay=config.weight_decay), None),
            callbacks=[SaveStates(part)] if part else [],
        )
        if progress is not None:
            loop.add_callback(ReportSteps(progress, loop))
        if not (part and part.work.latest(part.name)):
            loop.before = held_out_loss(reading, texts.held_out, student.pad_id)
        run_loop(loop, part)
    return loop.before, held_out_loss(reading, texts.held_out, student.pad_id)


class MaskedTrainer(ResumableTrainer):
    """The loop that hides parts of its batches; which ones, the seed and the step alone decide."""

    def __init__(self, *, hide: Hide, **arguments: Any) -> None:
        """Args: hide as in a Reading; the rest is the loop's."""
        super().__init__(**arguments)
        self.hide, self.before = hide, float("nan")

    def beside_state(self) -> dict[str, Any]:
        """The held-out loss at the start."""
        return {"before": self.before}

    def take_beside_state(self, values: dict[str, Any]) -> None:
        """What :meth:`beside_state` gave."""
        self.before = values["before"]

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """The mean loss of the batch's hidden parts, in nats; raises UserError when it is not a finite number."""
        step = self.args.process_index + self.args.world_size * self.state.global_step
        draw = torch.Generator().manual_seed(self.args.seed * 1_000_003 + step)
        ids, asked = self.hide(inputs.pop("input_ids"), inputs["attention_mask"], draw)
        loss = loss_in_parts(model, {"input_ids": ids, "asked": asked, **inputs}, self.part_cost)
        self.note(loss)
        return (loss, None) if return_outputs else loss


def loss_in_parts(guesser: nn.Module, inputs: dict[str, Tensor], part_cost: float) -> Tensor:
    """The mean loss over all that is asked about, in nats.

    Args:
        guesser, inputs: as :class:`Reading` has it; int64 [B, T] by name.
        part_cost: as in `trainer/training/batches.py`.
    """
    n_asked = (inputs["asked"] != NOTHING).sum()
    counted = ((part, (part["asked"] != NOTHING).sum()) for _, part in in_parts(inputs, part_cost))
    return torch.stack([guesser(**part) * n / n_asked for part, n in counted if n]).sum()


def held_out_loss(reading: Reading, features: Sequence[Feature], pad_id: int) -> float:
    """The mean loss of hidden parts, in nats; the same parts are hidden every time."""
    guesser = reading.guesser.eval()
    device = next(guesser.parameters()).device
    draw = torch.Generator().manual_seed(HELD_OUT_SEED)
    by_length = sorted(features, key=lambda feature: len(feature["input_ids"]))
    total, n_asked = 0.0, 0
    with torch.inference_mode():
        for start in range(0, len(by_length), BATCH_SIZE):
            batch = tokenizer.pad(by_length[start : start + BATCH_SIZE], pad_id)
            ids, asked = reading.hide(batch.pop("input_ids"), batch["attention_mask"], draw)
            batch |= {"input_ids": ids, "asked": asked}
            n = int((asked != NOTHING).sum())
            total += n * guesser(**{name: tensor.to(device) for name, tensor in batch.items()}).item()
            n_asked += n
    return total / n_asked


def _keep(part: Part, student: Encoder, before: float, after: float) -> None:
    """Keep what was learned in place of the states on the way to it; raises UserError if the disk refuses."""
    if not part.work.writes:
        return
    part.work.claim()
    folder = part.folder / "done"
    with disk_refusals(folder, "what was learned"):
        folder.mkdir(parents=True, exist_ok=True)
        seal(folder, {"weights": student.model.state_dict(), "before": before, "after": after})
        for older in part.folder.glob("checkpoint-*"):
            shutil.rmtree(older)
