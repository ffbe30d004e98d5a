"""The `potstill` command: what it can do, and what becomes of an error."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from potstill.commands.console.errors import FAILED, OK, missing_extra, one_line
from potstill.commands.console.lazy import LazyGroup, Row
from potstill.commands.console.signals import exit_code
from potstill.contract.errors import StoppedError, UserError

COMMANDS: dict[str, Row] = {
    "demo": Row("potstill.commands.demo", "Label, train, export and measure on the example that comes with potstill.", "all"),
    "init": Row("potstill.commands.init", "Write a commented task and project to start from.", None),
    "run": Row("potstill.commands.run", "Take a project from texts to a measured bundle; skip what has not changed.", "all"),
    "task": Row("potstill.commands.labelling.task", "Check a task file.", None),
    "label": Row("potstill.commands.labelling.label", "Have the teacher label texts into a label store.", "label"),
    "labels": Row("potstill.commands.labelling.labels", "Derive soft labels from a label store.", "label"),
    "train": Row("potstill.commands.training.train", "Distil soft labels into a student checkpoint.", "train"),
    "evaluate": Row(
        "potstill.commands.training.evaluate", "Score a checkpoint, its bundle, its teacher and baselines on gold labels.", "train"
    ),
    "calibrate": Row(
        "potstill.commands.training.calibrate", "Choose thresholds and label sets of a checkpoint on gold labels.", "train"
    ),
    "report": Row(
        "potstill.commands.training.report", "Write a page about a checkpoint: scores, plots, slices, mistakes.", "train"
    ),
    "export": Row("potstill.commands.bundles.export", "Write a checkpoint as an int8 bundle, and prove it.", "export"),
    "package": Row("potstill.commands.bundles.package", "Write a bundle for Hugging Face, Triton, KServe or Docker.", "export"),
    "sign": Row("potstill.commands.bundles.sign", "Sign a bundle, so that its files cannot be changed unseen.", "sign"),
    "predict": Row("potstill.commands.bundles.predict", "Classify the texts of a file with a bundle.", "serve"),
    "cascade": Row(
        "potstill.commands.bundles.cascade", "Join a fast bundle and a good one: the fast one answers what it is sure of.", "serve"
    ),
    "verify": Row("potstill.commands.bundles.verify", "Check a bundle's sums, form, golden texts and signature.", "serve"),
    "adapt": Row("potstill.commands.bundles.adapt", "Fit a bundle to texts with other label shares.", "serve"),
    "serve": Row("potstill.commands.bundles.serve", "Answer over HTTP with a bundle.", "serve"),
    "bench": Row("potstill.commands.bench.bench", "Measure latency, throughput, start-up and memory.", "serve"),
    "models": Row("potstill.commands.models", "List, fetch, verify and re-pack models.", None),
}


def _print_version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    """Print the installed version, and stop."""
    if asked:
        from importlib import metadata  # costs more than the whole help, so only who asks pays

        try:
            click.echo(f"potstill {metadata.version('potstill')}")
        except metadata.PackageNotFoundError:
            click.echo("potstill (a source folder that is not installed)")
        ctx.exit(OK)


@click.command(cls=LazyGroup, rows=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Show the version and exit."
)
def group() -> None:
    """Turn a local LLM into an annotator, and its judgement into a classifier small enough for a CPU.

    Start with: potstill demo. Then, with your own texts: potstill init my_task.
    """


def run(args: Sequence[str]) -> int:
    """Run the command line; returns the exit code. An error that nobody can fix from here is raised, traceback and all."""
    try:
        code = group.main(args=list(args), prog_name="potstill", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt) as stop:
        click.echo("potstill: interrupted", err=True)
        return exit_code(stop)
    except UserError as error:
        click.echo(one_line(error), err=True)
        return exit_code(error) if isinstance(error, StoppedError) else FAILED
    except ModuleNotFoundError as error:  # a library that a command imports while it works
        if (told := missing_extra(error, None)) is None:
            raise
        click.echo(one_line(told), err=True)
        return FAILED
    return code if isinstance(code, int) else OK


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
