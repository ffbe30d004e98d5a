"""Hugging Face's `Trainer` with resumable states, progress and a clean stop, for fitting and pretraining alike."""

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
from potstill.contract.system.threads import Waiting
from potstill.trainer.config import TrainConfig
from potstill.trainer.students.encoder import BATCH_SIZE
from potstill.trainer.training.batches import Shuffled
from potstill.trainer.training.resume import SEAL_FILE, DivergenceError, WorkFolder, disk_refusals, seal

TrainProgress = Callable[[str, int, int, float], None]  # (stage, steps done, steps planned, loss of the last step)


@dataclass(frozen=True)
class StateFolder:
    """The states of one training of a run: a folder in its work folder."""

    work: WorkFolder
    name: str

    @property
    def folder(self) -> Path:
        """The folder itself."""
        return self.work.folder / self.name


class ResumableTrainer(Trainer):
    """A loop whose states lie in the work folder, and are either complete or absent."""

    def __init__(self, *, states: StateFolder | None, part_cost: float, stage: str = "train", **arguments: Any) -> None:
        """Set up the loop.

        Args:
            states: where states go; None: nowhere.
            part_cost: fixed cost of a pass over a part of a batch on a CPU, in tokens; see `training/batches.py`.
            stage: name of the loop in messages and progress.
            arguments: those of Trainer.
        """
        super().__init__(**arguments)
        self.states, self.stage, self.last_loss = states, stage, float("nan")
        self.part_cost = part_cost if self.args.device.type == "cpu" else math.inf  # on an accelerator passes wait for each other
        self.remove_callback(PrinterCallback)  # it would print every evaluation to standard output

    def extra_state(self) -> dict[str, Any]:
        """Values to save in a state beside the loop's own."""
        return {}

    def load_extra_state(self, values: dict[str, Any]) -> None:
        """Take what :meth:`extra_state` returned."""

    def note(self, loss: Tensor) -> None:
        """Record a step's loss; raises UserError if it is not finite. Args: loss, a scalar, in nats."""
        self.last_loss = loss.item()
        if not torch.isfinite(loss):
            place = f"step {self.state.global_step + 1} of {self.state.max_steps}"
            kind = "training" if self.stage == "train" else self.stage
            raise DivergenceError(f"the {kind} loss became {self.last_loss} at {place}; lower the learning rate")

    def _get_train_sampler(self, train_dataset: Any = None) -> Shuffled:
        """Batches that depend on seed and epoch alone."""
        return Shuffled(len(self.train_dataset), self.args.seed)

    def _get_output_dir(self, trial: Any) -> str:
        """The folder of the states."""
        return str(self.states.folder if self.states else self.args.output_dir)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Save a state; raises UserError if the disk refuses."""
        if self.states is None:
            return
        self.states.work.claim()
        folder = self.states.folder / f"checkpoint-{self.state.global_step}"
        with disk_refusals(folder, "the state"):
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            if self.is_world_process_zero():
                seal(folder, self.extra_state())
                for older in self.states.folder.iterdir():  # kept until this one was complete
                    if older != folder:
                        shutil.rmtree(older)


def run_loop(loop: ResumableTrainer, states: StateFolder | None) -> None:
    """Train, from the newest state if there is one.

    Raises:
        StoppedError: if a signal asked to stop before the end.
    """
    newest = states.work.latest(states.name) if states else None
    if newest is not None:
        loop.load_extra_state(torch.load(newest / SEAL_FILE, weights_only=True))
    beside = BesideOthers()
    if loop.args.device.type == "cpu":
        loop.add_callback(beside)
    try:
        loop.train(resume_from_checkpoint=str(newest) if newest else None)
    finally:
        beside.waiting.close()
    if states and any(isinstance(callback, SaveStates) and callback.stopped for callback in loop.callback_handler.callbacks):
        raise StoppedError(
            f"stopped at step {loop.state.global_step} of {loop.state.max_steps}; what is trained is kept in "
            f"{states.work.folder}; the same command goes on from there"
        ) from states.work.stop.reason()


class SaveStates(TrainerCallback):
    """Save the loop's state at intervals, and when a signal asks to stop.

    The last step of an epoch is saved after the epoch's validation, so that a resumed run has its loss. Put this callback after the
    one that stops training early.
    """

    def __init__(self, states: StateFolder) -> None:
        """Args: states, where to save; its work folder says how often."""
        self.states, self.stopped = states, False
        self.saved = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Save within an epoch if it is time."""
        if state.global_step % max(1, round(state.max_steps / state.num_train_epochs)):
            self._decide(control)

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Save at the end of an epoch, unless it is the last."""
        if self.stopped:
            control.should_evaluate = False  # stopped within the epoch
        elif state.global_step < state.max_steps:
            self._decide(control)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """If training ends here anyway, it was not interrupted: that callback clears should_save."""
        if not control.should_save:
            self.stopped = False

    def _decide(self, control: TrainerControl) -> None:
        """Request a save if one is due, and a stop if a signal came."""
        due = time.monotonic() - self.saved >= self.states.work.save_every_s
        due, stop = _any_process(due, self.states.work.stop.asked)
        if due or stop:
            control.should_save, self.saved = True, time.monotonic()
        if stop:
            control.should_training_stop = self.stopped = True


def _any_process(*flags: bool) -> list[bool]:
    """Each flag, true if it is true in any process of a distributed training: all must save and stop at the same step."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return list(flags)
    device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    values = torch.tensor(flags, dtype=torch.int32, device=device)
    torch.distributed.all_reduce(values, torch.distributed.ReduceOp.MAX)
    return [bool(value) for value in values.tolist()]


class BesideOthers(TrainerCallback):
    """Let torch's threads wait for each other asleep where other programs keep the cores busy; no weight depends on it."""

    def __init__(self) -> None:
        """Begin as the system has it."""
        self.waiting = Waiting()
        self._began = time.perf_counter(), time.process_time()

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Read the clocks."""
        self._began = time.perf_counter(), time.process_time()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Say how much of the cores the step got."""
        began, cpu_began = self._began
        self.waiting.worked(torch.get_num_threads(), time.perf_counter() - began, time.process_time() - cpu_began)


class ReportSteps(TrainerCallback):
    """Report the loop's progress to the caller."""

    def __init__(self, progress: TrainProgress, loop: ResumableTrainer) -> None:
        """Args: progress, called with (stage, steps done, steps planned, loss of the last step)."""
        self.progress, self.loop = progress, loop

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Report a step."""
        self.progress(self.loop.stage, state.global_step, state.max_steps, self.loop.last_loss)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Report the end, early or not."""
        self.progress(self.loop.stage, state.global_step, state.global_step, self.loop.last_loss)


def _warmup(share: float) -> dict[str, float]:
    """The argument that warms up for that share of the steps: transformers 5 takes shares in place of a number of steps."""
    return {"warmup_ratio" if "warmup_ratio" in TrainingArguments.__dataclass_fields__ else "warmup_steps": share}


def loop_arguments(config: TrainConfig, scratch: str, **changes: Any) -> TrainingArguments:
    """The loop's settings: it saves only when SaveStates says so, and reports nowhere. Args: changes, TrainingArguments by name."""
    return TrainingArguments(
        output_dir=scratch,
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=BATCH_SIZE,
        **_warmup(config.warmup_share),
        lr_scheduler_type="linear",
        max_grad_norm=1.0,
        save_strategy="no",  # SaveStates decides
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=config.seed,
        remove_unused_columns=False,
        ddp_find_unused_parameters=False,  # every step uses all of them
        ddp_broadcast_buffers=False,  # they never change, and every part of a batch would send them
        dataloader_pin_memory=torch.cuda.is_available(),
        **changes,
    )
