"""The `potstill` command: the table of its commands, and what each kind of error becomes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from potstill.commands.console.errors import FAILED, OK, exit_code, line, one_line
from potstill.commands.console.lazy import LazyGroup, Row
from potstill.contract.errors import StoppedError, UserError

COMMANDS: dict[str, Row] = {
    "demo": Row(
        "potstill.commands.pipeline", "Label, train, export and measure on the example that comes with potstill.", "all", "demo"
    ),
    "init": Row("potstill.commands.labelling.task", "Write a commented task and project to start from.", None, "init"),
    "run": Row(
        "potstill.commands.pipeline", "Take a project from texts to a measured bundle; skip what has not changed.", "all", "run"
    ),
    "status": Row("potstill.commands.status", "Say where a project stands, what is next, and what it cost.", None),
    "task": Row("potstill.commands.labelling.task", "Check a task file, show its prompt, and choose how to ask.", None),
    "label": Row("potstill.commands.labelling.label", "Have the teacher label texts into a label store.", "label"),
    "plan": Row("potstill.commands.labelling.plan", "Say what can be labelled on this machine in some hours, and how.", "label"),
    "labels": Row(
        "potstill.commands.labelling.labels", "Derive, compare, combine, check and export the soft labels of a store.", "label"
    ),
    "review": Row("potstill.commands.labelling.review", "Label, correct and steer in a browser, on this machine.", "review"),
    "train": Row("potstill.commands.training.train", "Distil soft labels into a student checkpoint.", "train"),
    "evaluate": Row(
        "potstill.commands.training.evaluate",
        "Score a checkpoint, its bundle, its teacher and baselines on gold labels.",
        "train",
        "evaluate",
    ),
    "calibrate": Row(
        "potstill.commands.training.evaluate",
        "Choose thresholds and label sets of a checkpoint on gold labels.",
        "train",
        "calibrate",
    ),
    "report": Row(
        "potstill.commands.training.report", "Write a page about a checkpoint: scores, plots, slices, mistakes.", "train"
    ),
    "export": Row("potstill.commands.bundles.export", "Write a checkpoint as an int8 bundle, and prove it.", "export"),
    "package": Row(
        "potstill.commands.bundles.package",
        "Write a bundle for a hub, another server, or a web page.",
        "export",
        "package",
    ),
    "push": Row("potstill.commands.bundles.hub", "Write a bundle to the Hugging Face hub.", "hub", "push"),
    "pull": Row("potstill.commands.bundles.hub", "Get a bundle from the Hugging Face hub, and verify it.", "hub", "pull"),
    "sign": Row("potstill.commands.bundles.package", "Sign a bundle, so that a change of its files is noticed.", "sign", "sign"),
    "predict": Row("potstill.commands.bundles.predict", "Classify the texts of a file with a bundle.", "serve", "command"),
    "shares": Row(
        "potstill.commands.bundles.offline",
        "Estimate label shares of many texts from few gold labels and a bundle's answers.",
        "serve",
        "shares",
    ),
    "cascade": Row(
        "potstill.commands.bundles.offline",
        "Join a fast bundle and a good one: the fast one answers where it is confident.",
        "serve",
        "cascade",
    ),
    "verify": Row(
        "potstill.commands.bundles.offline", "Check a bundle's sums, format, golden texts and signature.", "serve", "verify"
    ),
    "certify": Row(
        "potstill.commands.bundles.offline",
        "Find how many texts a bundle may answer so that a stated accuracy holds.",
        "serve",
        "certify",
    ),
    "check": Row(
        "potstill.commands.bundles.offline", "Hold a bundle's certificate against new texts with labels.", "serve", "check"
    ),
    "audit": Row(
        "potstill.commands.bundles.offline",
        "Say whether a bundle still agrees with the teacher behind its server.",
        "serve",
        "audit",
    ),
    "adapt": Row("potstill.commands.bundles.offline", "Adapt a bundle to texts with other label shares.", "serve", "adapt"),
    "serve": Row("potstill.commands.bundles.serve", "Answer over HTTP with a bundle.", "serve"),
    "bench": Row("potstill.commands.bench.group", "Measure latency, throughput, start-up and memory.", "serve"),
    "models": Row("potstill.commands.models", "List, fetch, verify, check and re-pack models.", None),
    "doctor": Row("potstill.commands.doctor", "Show what this machine and its libraries can do, and what is wrong.", None),
    "completion": Row("potstill.commands.completion", "Print what a shell needs to complete commands and options.", None),
}


def _print_version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    """Print the installed version and exit."""
    if asked:
        from importlib import metadata  # takes longer than the whole help, so it is imported only here

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
    """Run the command line and return its exit code; an error that the user cannot fix is raised, with its traceback."""
    if not _locks_files():
        click.echo(line("this system has no POSIX file locks; potstill runs on Linux and macOS, and on Windows in WSL"), err=True)
        return FAILED
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
    return code if isinstance(code, int) else OK


def _locks_files() -> bool:
    """Whether Python can lock files here, which keeps two programs from writing one store; on Windows it cannot."""
    try:
        import fcntl  # noqa: F401  # part of Python, and loaded by most commands anyway
    except ModuleNotFoundError:
        return False
    return True


def keep_to_itself(args: Sequence[str]) -> None:
    """Let no library ask the hub, but for commands about it, nor write outside potstill's own folder of the user's cache."""
    if list(args[:2]) != ["models", "fetch"] and list(args[:1]) not in (["push"], ["pull"]):
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    home = os.environ.get("XDG_CACHE_HOME") or (os.path.expanduser("~/.cache") if os.path.expanduser("~") != "~" else "")
    if home:  # else matplotlib takes a temporary folder
        os.environ.setdefault("MPLCONFIGDIR", str(Path(home) / "potstill" / "matplotlib"))


def main() -> None:
    """The console script."""
    keep_to_itself(sys.argv[1:])
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
