"""`potstill train`: soft labels to a student."""

from __future__ import annotations

from pathlib import Path

import click

from potstill.commands.console.signals import heeding_sigterm
from potstill.commands.console.train_progress import train_progress
from potstill.contract.task import load_task
from potstill.contract.texts import read_texts
from potstill.trainer.config import RECIPES, WEIGHTINGS, TrainConfig
from potstill.trainer.run import is_main_process, train
from potstill.trainer.sweep import sweep
from potstill.trainer.training.losses import OBJECTIVES

FILE = click.Path(path_type=Path)  # whether it is there is for its reader to say


@click.command("train")
@click.argument("task", type=FILE)
@click.argument("soft_labels", type=FILE)
@click.argument("checkpoint", type=FILE)
@click.option("--family", type=click.Choice(list(RECIPES)), default=TrainConfig.family, show_default=True, help="Kind of student.")
@click.option("--from", "from_student", help="Checkpoint that answers the texts instead of SOFT_LABELS; static takes its vectors.")
@click.option("--pool", help="Texts without labels: answered by --from, read by --tapt or --pretrain.")
@click.option(
    "--tapt", default=TrainConfig.tapt, show_default=True, help="Masked steps of an encoder on the texts before training."
)
@click.option("--pretrain", default=TrainConfig.pretrain, show_default=True, help="The same of a charformer.")
@click.option("--backbone", default=TrainConfig.backbone, show_default=True, help="Encoder to start from: a name or a folder.")
@click.option("--init", help="Folder to start from instead, a checkpoint for one; its head is kept if it has the task's labels.")
@click.option("--loss", type=click.Choice(list(OBJECTIVES)), default=TrainConfig.loss, show_default=True, help="What to match.")
@click.option("--distill-temperature", default=TrainConfig.distill_temperature, show_default=True, help="Of the loss kl, above 0.")
@click.option("--label-smoothing", default=TrainConfig.label_smoothing, show_default=True, help="Share of every target, 0 to 1.")
@click.option(
    "--weighting",
    type=click.Choice(WEIGHTINGS),
    default=TrainConfig.weighting,
    show_default="certainty; with --from even",
    help="What each text counts.",
)
@click.option("--min-agreement", default=TrainConfig.min_agreement, show_default=True, help="Least share of like paths, 0 to 1.")
@click.option("--epochs", type=int, default=TrainConfig.epochs, help="Most passes over the texts.  [default: by their number]")
@click.option("--batch-size", default=TrainConfig.batch_size, show_default=True, help="Texts a step.")
@click.option(
    "--learning-rate",
    type=float,
    default=TrainConfig.learning_rate,
    help="Highest one, of the body.  [default: by family and number of texts]",
)
@click.option("--head-rate", type=float, default=TrainConfig.head_rate, help="Highest one, of the new head.  [default: by family]")
@click.option(
    "--max-tokens",
    default=TrainConfig.max_tokens,
    show_default=True,
    help="Longer texts are cut; special tokens count, 4 bytes of a charformer are one.",
)
@click.option(
    "--validation-share", default=TrainConfig.validation_share, show_default=True, help="Share of texts held out, 0 to 1."
)
@click.option(
    "--precision", type=float, default=TrainConfig.precision, help="Abstain below it; agreement with the teacher, 0 to 1."
)
@click.option("--coverage", type=float, default=TrainConfig.coverage, help="Of label sets, by the teacher's label, 0 to 1.")
@click.option("--seed", default=TrainConfig.seed, show_default=True, help="Of the head, the batches and dropout.")
@click.option("--seeds", default=TrainConfig.seeds, show_default=True, help="Students; of several the mean is distilled into one.")
@click.option(
    "--folds", type=int, default=TrainConfig.folds, help="Folds that the seeds leave out in turn.  [default: seeds, at most 5]"
)
@click.option(
    "--teacher-weight", default=TrainConfig.teacher_weight, show_default=True, help="Of the teacher beside the seeds' mean, 0 to 1."
)
@click.option("--sweep", "sweeps", is_flag=True, help="Write no CHECKPOINT; print a table of losses and agreements.")
@click.option("--gold", type=FILE, help="Gold texts for the table of --sweep; the best setting is chosen without them.")
@click.option("--save-every", default=TrainConfig.save_every, show_default=True, help="Seconds between states to go on from.")
@click.option("--restart", is_flag=True, help="Begin anew instead of going on with a run that was killed.")
@click.option("--threads", type=int, default=TrainConfig.threads, help="CPU threads.  [default: all]")
def command(
    task: Path, soft_labels: Path, checkpoint: Path, restart: bool, sweeps: bool, gold: Path | None, **options: object
) -> None:
    """Train a student for TASK on SOFT_LABELS and write it to the folder CHECKPOINT.

    A run that was stopped or killed goes on from where it was when the same command is given again.
    """
    if gold and not sweeps:
        raise click.UsageError("--gold is for the table of --sweep; score a checkpoint with: potstill evaluate")
    config = TrainConfig(**options)  # type: ignore[arg-type]  # click gives each option the type of its default
    read = load_task(task)
    with heeding_sigterm(), train_progress() as show:
        if sweeps:
            texts = read_texts(gold, labels=read.label_names, target=read.input.target, gold=True).texts if gold else []
            text = sweep(read, soft_labels, checkpoint, config, texts, show).as_text()
        else:
            text = train(read, soft_labels, checkpoint, config, show, "restart" if restart else "resume").as_text()
    if is_main_process():
        click.echo(text)
