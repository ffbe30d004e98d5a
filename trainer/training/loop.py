"""Hugging Face's `Trainer` as every training here runs it: states to go on from, progress, a clean stop."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from potstill.contract.errors import StoppedError
from potstill.trainer.config import TrainConfig
from potstill.trainer.students.encoder import BATCH_SIZE
from potstill.trainer.training.batches import Shuffled
from potstill.trainer.training.resume import SEAL_FILE, LostError, Work, disk_refusals, seal

Progress = Callable[[str, int, int, float], None]  # (stage, steps done, steps planned, loss of the last step)


@dataclass(frozen=True)
class Part:
    """One training of a run, by the name of its folder in the work folder."""

    work: Work
    name: str

    @property
    def folder(self) -> Path:
        """Where its states go."""
        return self.work.folder / self.name


class ResumableTrainer(Trainer):
    """A loop whose states are whole or not there, and lie in the work folder."""

    def __init__(self, *, part: Part | None, part_cost: float, stage: str = "train", **arguments: Any) -> None:
        """Set up the loop.

        Args:
            part: says where.
            part_cost: in tokens, of a pass over a part of a batch on a CPU; see `trainer/training/batches.py`.
            stage: what the loop is called in messages.
            arguments: Trainer's own.
        """
        super().__init__(**arguments)
        self.part, self.stage, self.last_loss = part, stage, float("nan")
        self.part_cost = part_cost if self.args.device.type == "cpu" else math.inf  # elsewhere passes wait for each other
        self.remove_callback(PrinterCallback)  # it would print every measurement to standard output

    def beside_state(self) -> dict[str, Any]:
        """What a state must hold beyond the loop's own."""
        return {}

    def take_beside_state(self, values: dict[str, Any]) -> None:
        """Go on with what :meth:`beside_state` gave."""

    def note(self, loss: Tensor) -> None:
        """Remember a step's loss; raises UserError when it is not a finite number."""
        self.last_loss = loss.item()
        if not torch.isfinite(loss):
            place = f"step {self.state.global_step + 1} of {self.state.max_steps}"
            kind = "training" if self.stage == "train" else self.stage
            raise LostError(f"the {kind} loss became {self.last_loss} at {place}; lower the learning rate")

    def _get_train_sampler(self, train_dataset: Any = None) -> Shuffled:
        """Batches that the seed and the epoch alone decide."""
        return Shuffled(len(self.train_dataset), self.args.seed)

    def _get_output_dir(self, trial: Any) -> str:
        """The part's folder."""
        return str(self.part.folder if self.part else self.args.output_dir)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Save a state; raises UserError if the disk refuses."""
        if self.part is None:
            return
        self.part.work.claim()
        folder = self.part.folder / f"checkpoint-{self.state.global_step}"
        with disk_refusals(folder, "the state"):
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            if self.is_world_process_zero():
                seal(folder, self.beside_state())
                for older in self.part.folder.iterdir():  # they stayed until this one was whole
                    if older != folder:
                        shutil.rmtree(older)


def run_loop(loop: ResumableTrainer, part: Part | None) -> None:
    """Train, from the newest state of the part if it has one.

    Raises:
        StoppedError: if somebody asked to stop before the end.
    """
    state = part.work.latest(part.name) if part else None
    if state is not None:
        loop.take_beside_state(torch.load(state / SEAL_FILE, weights_only=True))
    loop.train(resume_from_checkpoint=str(state) if state else None)
    if part and any(isinstance(callback, SaveStates) and callback.stopped for callback in loop.callback_handler.callbacks):
        raise StoppedError(
            f"stopped at step {loop.state.global_step} of {loop.state.max_steps}; what is trained is kept in "
            f"{part.work.folder}; the same command goes on from there"
        ) from part.work.stop.reason()


class SaveStates(TrainerCallback):
    """Has the loop save its state now and then, and when it is asked to stop.

    An epoch's last step is saved after the epoch's validation, so that a run that goes on from there has its loss. It must
    come after the callback that ends training early.
    """

    def __init__(self, part: Part) -> None:
        """Args: part says where, and how often."""
        self.part, self.stopped = part, False
        self.saved = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Inside an epoch."""
        if state.global_step % max(1, round(state.max_steps / state.num_train_epochs)):
            self._decide(control)

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """At the end of one, unless it is the last."""
        if self.stopped:
            control.should_evaluate = False  # the epoch is not over
        elif state.global_step < state.max_steps:
            self._decide(control)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Nothing was stopped if training ends here by itself: whoever decides that takes back the saving."""
        if not control.should_save:
            self.stopped = False

    def _decide(self, control: TrainerControl) -> None:
        """Save, or save and stop."""
        due = time.monotonic() - self.saved >= self.part.work.save_every_s
        due, stop = _any_process(due, self.part.work.stop.asked)
        if due or stop:
            control.should_save, self.saved = True, time.monotonic()
        if stop:
            control.should_training_stop = self.stopped = True


def _any_process(*flags: bool) -> list[bool]:
    """The flags, each true if it is so in any of the processes that train together: they must save and stop at the same step."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return list(flags)
    device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    values = torch.tensor(flags, dtype=torch.int32, device=device)
    torch.distributed.all_reduce(values, torch.distributed.ReduceOp.MAX)
    return [bool(value) for value in values.tolist()]


class ReportSteps(TrainerCallback):
    """Tells the caller how far the loop is."""

    def __init__(self, progress: Progress, loop: ResumableTrainer) -> None:
        """Args: progress is told (stage, done, total, loss)."""
        self.progress, self.loop = progress, loop

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """One more step is done."""
        self.progress(self.loop.stage, state.global_step, state.max_steps, self.loop.last_loss)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """No step is left, early or not."""
        self.progress(self.loop.stage, state.global_step, state.global_step, self.loop.last_loss)


def loop_arguments(config: TrainConfig, scratch: str, **changes: Any) -> TrainingArguments:
    """The loop's settings: states when we say so, no reports to anyone. Args: changes are TrainingArguments by name."""
    return TrainingArguments(
        output_dir=scratch,
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=BATCH_SIZE,
        warmup_ratio=config.warmup_share,
        lr_scheduler_type="linear",
        max_grad_norm=1.0,
        save_strategy="no",  # SaveStates decides
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=config.seed,
        remove_unused_columns=False,
        ddp_find_unused_parameters=False,  # every step uses all of them
        ddp_broadcast_buffers=False,  # they never change, and a batch's parts would each send them
        dataloader_pin_memory=torch.cuda.is_available(),
        **changes,
    )
