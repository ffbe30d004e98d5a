"""`potstill shares`, `verify`, `certify`, `check`, `adapt`, `cascade` and `audit`: bundles on files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from potstill.commands.console.errors import FAILED, line, printable, tell
from potstill.commands.console.progress import progress
from potstill.commands.options.bundle import trust_option, workers_option
from potstill.commands.options.configs import config_of
from potstill.commands.options.promise import confidence_option, named, rule_option
from potstill.serve.config import AdaptConfig, AuditConfig, CascadeConfig, CertifyConfig, ChecksConfig, SharesConfig

if TYPE_CHECKING:
    from potstill.serve.offline.certify import CheckReport
    from potstill.serve.offline.certify_questions import QuestionsChecked
    from potstill.serve.offline.checks import ChecksReport

PATH = click.Path(path_type=Path)


@click.command("shares")
@click.argument("bundle", type=PATH)
@click.argument("texts", type=PATH)
@click.option(
    "--gold", type=PATH, required=True, help="Texts with labels: drawn at random from TEXTS, or a random sample of such texts."
)
@click.option(
    "--confidence", default=SharesConfig.confidence, show_default=True, help="Of each interval, at least 0.5 and below 1."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
@workers_option
@trust_option
def shares(bundle: Path, texts: Path, gold: Path, as_json: bool, **options: object) -> None:
    """Estimate the share of each label in TEXTS from few gold labels and the answers of BUNDLE, with intervals.

    Beside each estimate stand the gold texts alone, and the bare answers, which are off by as much as BUNDLE is wrong.
    """
    from potstill.serve.offline.shares import shares_of  # this and what the others import loads onnxruntime; the help does without

    with progress("shares", "texts"):
        report = shares_of(bundle, texts, gold, config_of(SharesConfig, options))
    for note in report.notes:
        tell(note)
    click.echo(msgspec.json.encode(report).decode() if as_json else printable(report.as_text()))


@click.command("verify")
@click.argument("bundle", type=PATH)
@click.option(
    "--key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Public key (PEM) of whoever must have signed it.  [default: a signature is only mentioned]",
)
@trust_option
@click.pass_context
def verify(ctx: click.Context, bundle: Path, key: Path | None, trust: bool) -> None:
    """Check the sums, the format and the golden texts of BUNDLE; print a line for each file that fails, and exit with 1 then."""
    from potstill.serve.offline.verify import verify as verify_bundle

    with progress("verify"):
        found = verify_bundle(bundle, key, trust=trust)
    for problem in found.problems:
        click.echo(line(problem), err=True)
    if found.problems:
        ctx.exit(FAILED)
    click.echo(printable(found.as_text()))


@click.command("certify")
@click.argument("bundle", type=PATH)
@click.argument("gold", type=PATH)
@click.option("--accuracy", default=CertifyConfig.accuracy, show_default=True, help="Of the answers given, 0 to 1.")
@click.option(
    "--agreement",
    type=float,
    default=CertifyConfig.agreement,
    help="In place of an accuracy, where the labels in GOLD are a teacher's; the certificate says so.",
)
@confidence_option
@click.option("--per-label", is_flag=True, help="A switch for each label, so that each label's answers have the accuracy.")
@click.option(
    "--slice",
    "slices",
    metavar="NAME=REGEX",
    multiple=True,
    callback=named,
    help="Say whether it is shown for the texts that match, too, ignoring case. Repeatable.",
)
@click.option("--question", "questions", multiple=True, help="Of several questions: one to certify; else all. Repeatable.")
@click.option("--out", type=PATH, help="Folder of the new bundle.  [default: BUNDLE is replaced]")
@workers_option
@trust_option
def certify(bundle: Path, gold: Path, out: Path | None, **options: object) -> None:
    """Find how many texts BUNDLE may answer so that its answers are right with a stated accuracy, and write that into it.

    GOLD has texts with labels that nothing was fitted to. The bundle abstains from the other texts. Of several questions each has a
    certificate of its own, tags apart; the confidence is that of all together.
    """
    from potstill.serve.offline.certify_questions import certify as certify_bundle

    with progress("certify", "texts"):
        report = certify_bundle(bundle, gold, out, config_of(CertifyConfig, options))
    if report.skipped:
        tell(report.skipped)
    click.echo(printable(report.as_text()))


@click.command("check")
@click.argument("bundle", type=PATH)
@click.argument("texts", type=PATH)
@click.option("--gold", type=PATH, help="Texts with labels, for the certificate.  [default: TEXTS, if no other check is asked for]")
@click.option(
    "--false-alarms",
    type=float,
    help="How often, at most, unchanged label shares are called changed, above 0 and below 1.  "
    f"[default: {ChecksConfig.false_alarms:g}, with --gold or --max-ms]",
)
@click.option(
    "--max-ms", type=float, help="Milliseconds within which 95 % of TEXTS are answered, one after another.  [default: not checked]"
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
@workers_option
@trust_option
@click.pass_context
def check(
    ctx: click.Context,
    bundle: Path,
    texts: Path,
    gold: Path | None,
    false_alarms: float | None,
    max_ms: float | None,
    as_json: bool,
    workers: int | None,
    trust: bool,
) -> None:
    """Say whether BUNDLE still does what it did; exit with 1 if a check is broken, or cannot be made.

    Alone, TEXTS are new texts with labels, against which the certificate is held. With --gold those are the texts with labels, and
    TEXTS, a random sample of today's that needs none, are tested for other label shares than the bundle knows. --max-ms times the
    answers to TEXTS, too; without --gold the certificate is then left out. A line for each check.
    """
    from potstill.serve.offline import certify_questions, checks

    alone = gold is None and false_alarms is None and max_ms is None
    told: CheckReport | QuestionsChecked | ChecksReport
    with progress("check", "texts", timed=max_ms is not None):
        if alone and not as_json:
            told = certify_questions.check(bundle, texts, workers, trust=trust)
        else:
            rate = ChecksConfig.false_alarms if false_alarms is None else false_alarms
            settings = ChecksConfig(rate, max_ms, workers, trust)
            told = checks.check_bundle(bundle, None if alone else texts, texts if alone else gold, settings)
    click.echo(msgspec.json.encode(told).decode() if as_json else printable(told.as_text()))
    if told.broken:
        ctx.exit(FAILED)


@click.command("adapt")
@click.argument("bundle", type=PATH)
@click.argument("texts", type=PATH)
@click.option("--out", type=PATH, required=True, help="Folder of the new bundle.")
@click.option(
    "--level", default=AdaptConfig.level, show_default=True, help="Significance level of the test, 0 to 1; 1 always adapts."
)
@click.option("--question", "questions", multiple=True, help="Of several questions: one to adapt; else all. Repeatable.")
@workers_option
@trust_option
def adapt(bundle: Path, texts: Path, out: Path, **options: object) -> None:
    """Estimate the label shares of TEXTS, which need no labels, and write BUNDLE again for them.

    Of several questions each is tested and adapted by itself; tags stay as they are.
    """
    from potstill.serve.offline.adapt_questions import adapt as adapt_bundle

    with progress("adapt", "texts"):
        report = adapt_bundle(bundle, texts, out, config_of(AdaptConfig, options))
    if report.skipped:
        tell(report.skipped)
    click.echo(printable(report.as_text()))


@click.command("cascade")
@click.argument("fast", type=PATH)
@click.argument("bundle", type=PATH)
@click.argument("texts", type=PATH)
@click.argument("out", type=PATH)
@click.option(
    "--max-loss",
    default=CascadeConfig.max_loss,
    show_default=True,
    help="Largest accepted loss, 0 to 1: of accuracy where TEXTS have gold labels (--rule point: of macro-F1), else of agreement "
    "with BUNDLE.",
)
@rule_option
@confidence_option
@workers_option
@trust_option
def cascade(fast: Path, bundle: Path, texts: Path, out: Path, **options: object) -> None:
    """Write OUT, a bundle in which FAST (such as a static student) answers where it is confident, and BUNDLE answers the rest.

    The confidence that FAST needs is chosen on TEXTS, which neither of them was trained on.
    """
    from potstill.serve.offline.cascade import cascade_bundle

    with progress("cascade", "texts"):
        report = cascade_bundle(fast, bundle, texts, out, config_of(CascadeConfig, options))
    if report.skipped:
        tell(report.skipped)
    click.echo(printable(report.as_text()))


@click.command("audit")
@click.argument("file", type=PATH)
@click.option("--bundle", type=PATH, help="Bundle whose stated agreement must hold.  [default: none; the newest version's records]")
@click.option("--hard", type=PATH, help="File (.jsonl) for the texts on which the two differ or the bundle is not sure.")
@click.option("--confidence", default=AuditConfig.confidence, show_default=True, help="Of the intervals, above 0 and below 1.")
@click.option(
    "--margin", default=AuditConfig.margin, show_default=True, help="By which agreement may be lower than stated, 0 to 1."
)
@click.option("--stated", type=float, help="Agreement that must hold, 0 to 1, in place of the bundle's.")
@click.pass_context
def audit(
    ctx: click.Context, file: Path, bundle: Path | None, hard: Path | None, confidence: float, margin: float, stated: float | None
) -> None:
    """Say whether a bundle still agrees with its teacher on the texts in FILE, which `potstill serve --audit` wrote.

    Exits with 1 if the agreement is shown not to hold any more. --hard writes the texts that are worth labelling next.
    """
    from potstill.serve.offline.audit import audit as read_audit

    report = read_audit(file, bundle, hard, AuditConfig(confidence, margin, stated))
    click.echo(printable(report.as_text()))
    if report.broken:
        ctx.exit(FAILED)
