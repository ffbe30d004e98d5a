"""`potstill train`: soft labels to a student checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from potstill.commands.console.errors import heeding_sigterm
from potstill.commands.console.progress import train_progress
from potstill.commands.options.configs import config_of
from potstill.commands.options.promise import confidence_option, rule_option
from potstill.trainer.config import GOLD_USES, LOSSES, RECIPES, WEIGHTINGS, TrainConfig

FILE = click.Path(path_type=Path)  # whether it exists is checked by the code that reads it


@click.command("train")
@click.argument("task", type=FILE)
@click.argument("soft_labels", type=FILE)
@click.argument("checkpoint", type=FILE)
@click.option("--family", type=click.Choice(list(RECIPES)), default=TrainConfig.family, show_default=True, help="Kind of student.")
@click.option(
    "--from",
    "from_student",
    help="Checkpoint whose answers are trained on instead of SOFT_LABELS; a static student takes its vectors, too.",
)
@click.option("--pool", help="File of texts without labels: answered by --from, or read by --tapt or --pretrain.")
@click.option(
    "--use-gold",
    help="File of gold texts to train on; without it no gold label is ever trained on. Held-out texts keep the teacher's label.",
)
@click.option(
    "--gold-as",
    type=click.Choice(GOLD_USES),
    default=TrainConfig.gold_as,
    show_default=True,
    help="What a gold label of --use-gold does: take the place of the teacher's, count as much as all its paths, or be weighed "
    "against it by how often people are right.",
)
@click.option(
    "--gold-right",
    type=float,
    default=TrainConfig.gold_right,
    help="Share of texts on which gold labels are right, above 0 to 1, for --gold-as weigh.  [default: estimated]",
)
@click.option(
    "--tapt",
    default=TrainConfig.tapt,
    show_default=True,
    help="Steps of masked-language training of an encoder on the texts, before it sees a label.",
)
@click.option("--pretrain", default=TrainConfig.pretrain, show_default=True, help="The same for a charformer.")
@click.option("--backbone", default=TrainConfig.backbone, show_default=True, help="Encoder to start from: a name or a folder.")
@click.option("--init", help="Folder to start from instead, such as a checkpoint; its head is kept if it has the task's labels.")
@click.option("--loss", type=click.Choice(LOSSES), default=TrainConfig.loss, show_default=True, help="Training objective.")
@click.option(
    "--distill-temperature", default=TrainConfig.distill_temperature, show_default=True, help="Temperature of the loss kl, above 0."
)
@click.option(
    "--label-smoothing",
    default=TrainConfig.label_smoothing,
    show_default=True,
    help="Share of every target that is spread evenly over the labels, 0 to 1.",
)
@click.option(
    "--weighting",
    type=click.Choice(WEIGHTINGS),
    default=TrainConfig.weighting,
    show_default="certainty; with --from even",
    help="Weight of each text in the loss.",
)
@click.option(
    "--min-agreement",
    default=TrainConfig.min_agreement,
    show_default=True,
    help="Smallest share of a text's paths that agree, 0 to 1; texts below it are left out.",
)
@click.option("--epochs", type=int, default=TrainConfig.epochs, help="Passes over the texts, at most.  [default: by their number]")
@click.option("--batch-size", default=TrainConfig.batch_size, show_default=True, help="Texts per step.")
@click.option(
    "--learning-rate",
    type=float,
    default=TrainConfig.learning_rate,
    help="Peak learning rate of the body.  [default: by family and number of texts]",
)
@click.option(
    "--head-rate", type=float, default=TrainConfig.head_rate, help="Peak learning rate of the new head.  [default: by family]"
)
@click.option(
    "--max-tokens",
    default=TrainConfig.max_tokens,
    show_default=True,
    help="Tokens read of a text, special ones included; for a charformer 4 bytes count as one.",
)
@click.option(
    "--validation-share", default=TrainConfig.validation_share, show_default=True, help="Share of the texts held out, 0 to 1."
)
@click.option(
    "--precision",
    type=float,
    default=TrainConfig.precision,
    help="Wanted precision, by the teacher's label, 0 to 1; the student abstains below it. Chosen on the held-out texts.",
)
@click.option(
    "--coverage",
    type=float,
    default=TrainConfig.coverage,
    help="Wanted coverage of label sets, by the teacher's label, 0 to 1. Chosen on the held-out texts.",
)
@rule_option
@confidence_option
@click.option("--seed", default=TrainConfig.seed, show_default=True, help="Random seed of head, batches and dropout.")
@click.option(
    "--seeds", default=TrainConfig.seeds, show_default=True, help="Number of students; the mean of several is distilled into one."
)
@click.option(
    "--folds",
    type=int,
    default=TrainConfig.folds,
    help="Folds that the seeds leave out in turn.  [default: as many as seeds, at most 5]",
)
@click.option(
    "--teacher-weight",
    default=TrainConfig.teacher_weight,
    show_default=True,
    help="Weight of the teacher's label beside the mean of the seeds, 0 to 1.",
)
@click.option(
    "--sweep", "sweeps", is_flag=True, help="Write no CHECKPOINT; train with each loss and smallest agreement, and print a table."
)
@click.option("--gold", type=FILE, help="Gold texts to score in the table of --sweep; the best setting is chosen without them.")
@click.option(
    "--save-every",
    default=TrainConfig.save_every,
    show_default=True,
    help="Seconds between saved states, from which a killed run resumes.",
)
@click.option(
    "--question", help="Of several: train an ordinary student of one choice for this one alone, or for one tag (QUESTION/TAG)."
)
@click.option("--restart", is_flag=True, help="Start again instead of resuming a run that was killed.")
@click.option("--threads", type=int, default=TrainConfig.threads, help="CPU threads.  [default: all]")
def command(
    task: Path, soft_labels: Path, checkpoint: Path, restart: bool, sweeps: bool, gold: Path | None, **options: Any
) -> None:
    """Train a student for TASK on SOFT_LABELS and write it to the folder CHECKPOINT.

    A run that was stopped or killed resumes when the same command is given again.
    """
    if gold and not sweeps:
        raise click.UsageError("--gold is for the table of --sweep; score a checkpoint with: potstill evaluate")
    if sweeps and options["use_gold"]:
        raise click.UsageError("--use-gold trains on gold labels, and --sweep compares settings without them; give one of the two")
    from potstill.contract.questions.questionnaire import load_any_task
    from potstill.trainer.data.answered import gold_of_one
    from potstill.trainer.run import is_main_process, train
    from potstill.trainer.sweep import sweep

    config, question = config_of(TrainConfig, options), options["question"]
    with heeding_sigterm(), train_progress() as progress:
        if sweeps:
            read = load_any_task(task)
            texts = gold_of_one(gold, read, question) if gold else []
            text = sweep(read, soft_labels, checkpoint, config, texts, progress, question=question).as_text()
        else:
            text = train(
                task, soft_labels, checkpoint, config, progress, "restart" if restart else "resume", question=question
            ).as_text()
    if is_main_process():
        click.echo(text)
