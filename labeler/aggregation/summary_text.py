"""The summary of a run as text, at most 100 columns wide."""

from __future__ import annotations

import textwrap

from potstill.contract.errors import count_of
from potstill.contract.scores.record import Score
from potstill.labeler.aggregation.summary import Summary
from potstill.labeler.store.database import RunSettings

COLUMNS = {"accuracy": "accuracy", "macro_f1": "macro-F1", "log_loss": "log-loss", "ece": "ECE"}
_WIDTH = 100
_BAR = 40  # characters of the longest bar
_MAX_LABELS = 6  # labels shown per method, the most common ones


def as_text(summary: Summary) -> str:
    """The summary in blocks, with a blank line between them."""
    blocks = [
        _head(summary),
        _narrowing(summary),
        _scores(summary),
        _shares(summary),
        _variants(summary),
        _agreement(summary),
        _cost(summary),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _head(summary: Summary) -> list[str]:
    """Teachers, their settings, and the size of their runs."""
    lines = []
    if summary.first_run is not None and summary.first_settings is not None:
        n_asked = max((row.n_texts for row in summary.variants if row.run == summary.run), default=0)
        lines = _teacher_lines(summary.first_run, summary.first_settings)
        lines.append(f"then, about the {n_asked} texts of which it was least certain:")
    lines += _teacher_lines(summary.run, summary.settings)
    return [
        *lines,
        f"  {count_of(summary.n_paths, 'path')} of {count_of(summary.n_texts, 'text')}; mean label mass {summary.label_mass:.2f}",
    ]


def _teacher_lines(number: int, run: RunSettings) -> list[str]:
    """One run's teacher and settings."""
    asked = f", api {run.api}" if run.api else ""
    adaptive = f", adaptive (bound {run.bound:g})" if run.bound > 0 else ""
    variants = count_of(run.n_variants, "variant")
    machine = [f"{run.gpu_layers} layers on a GPU"] if run.gpu_layers else []
    machine += [f"cache {run.kv_type}"] if run.kv_type != "f16" else []
    return [
        f"run {number}: {run.teacher} ({run.teacher_digest[:12]}, {run.build})",
        f"  mode {run.mode}{adaptive}{asked}, {variants}, temperature {run.temperature:g}, seed {run.seed}",
        *([f"  {', '.join(machine)}"] if machine else []),
    ]


def _narrowing(summary: Summary) -> list[str]:
    """The candidates of a task with many labels: how often the right one is among them, and how often the likeliest one is kept."""
    row = summary.narrowing
    if row is None:
        return []
    lines = [
        f"each text was asked among at most {row.n_candidates} of {row.n_labels} labels; the others keep {row.outside:.1%} together"
    ]
    if row.recall and row.first_right:
        lines.append(f"  the gold label is a candidate: {_cell(row.recall)}; it is the likeliest one: {_cell(row.first_right)}")
    return [*lines, f"  the teacher's label is the likeliest candidate for {row.first_kept:.0%} of the texts"]


def _scores(summary: Summary) -> list[str]:
    """Scores of every method on the gold texts."""
    if not summary.n_gold:
        return ["no gold texts, so no scores; label some with --gold", *_left_out(summary)]
    width = _name_width(summary)
    lines = [
        f"on {summary.n_gold} gold texts, with 95 % intervals",
        f"{'method':<{width}}" + "".join(f"{title:<19}" for title in COLUMNS.values()).rstrip(),
    ]
    for row in summary.methods:
        cells = [f"{_cell(row.scores[name]):<19}" for name in COLUMNS] if row.scores else []
        lines.append(f"{_shown(row.name):<{width}}" + "".join(cells).rstrip())
    return [*lines, *_left_out(summary)]


def _left_out(summary: Summary) -> list[str]:
    """Reasons why methods are missing."""
    return [textwrap.fill(f"left out: {line}", _WIDTH, subsequent_indent="  ") for line in summary.left_out]


def _shares(summary: Summary) -> list[str]:
    """Share of the texts by most probable label, for every method."""
    width = _name_width(summary)
    lines = [f"{'method':<{width}}entropy   share of the texts by most probable label"]
    for row in summary.methods:
        common = sorted(row.shares, key=lambda name: -row.shares[name])[:_MAX_LABELS]
        shown = [f"{name} {row.shares[name]:.0%}" for name in row.shares if name in common]
        more = len(row.shares) - len(shown)
        lines.append(
            f"{_shown(row.name):<{width}}{row.entropy:<10.2f}" + ", ".join(shown) + (f", and {more} other labels" if more else "")
        )
    return lines


def _variants(summary: Summary) -> list[str]:
    """One line for every prompt variant."""
    several = summary.first_run is not None  # teachers, whose variants are told apart by their run
    lines = [f"variant  {'run  ' if several else ''}mode    texts   paths   weight  calibrated accuracy  most common own vote"]
    for row in summary.variants:
        weight = "-" if row.weight is None else f"{row.weight:.2f}"
        accuracy = "-" if row.accuracy is None else f"{_cell(row.accuracy)}"
        lines.append(
            f"{row.number:<9}{f'{row.run:<5}' if several else ''}"
            f"{row.mode:<8}{row.n_texts:<8}{row.n_paths:<8}{weight:<8}{accuracy:<21}"
            f"{row.favourite} ({row.favourite_share:.0%})"
        )
    n_asked = summary.settings.wordings + 1
    if n_asked > 1 and not several:
        taken = [", ".join(str(row.number) for row in summary.variants if row.number % n_asked == turn) for turn in range(n_asked)]
        shown = [f"{turn or 'its own'}: {numbers or 'none yet'}" for turn, numbers in enumerate(taken)]
        lines.append(f"variants by wording of the task: {'; '.join(shown)}")
    return lines


def _agreement(summary: Summary) -> list[str]:
    """One bar per tenth of agreement."""
    most = max(summary.agreement.values())
    lines = ["agreement of a text's paths (up to), number of texts"]
    for tenth, count in summary.agreement.items():
        if count:
            lines.append(f"  {tenth}  {count:>7}  {'#' * round(_BAR * count / most)}".rstrip())
    return lines


def _cost(summary: Summary) -> list[str]:
    """Paths and tokens per text, by mode."""
    lines = ["cost, the same for every method; per text asked: mode, texts, paths, prompt and generated tokens"]
    for row in summary.cost:
        lines.append(
            f"  {f'run {row.run}  ' if summary.first_run is not None else ''}"
            f"{row.mode:<7}{row.n_texts:>7} texts{row.paths_per_text:>8.1f} paths{row.prompt_tokens_per_text:>9.0f} prompt"
            f"{row.generated_tokens_per_text:>9.0f} generated"
        )
    return lines


def _cell(score: Score) -> str:
    """`0.612 0.570-0.653`."""
    digits = 3 if score.high < 10 else 2
    return f"{score.value:.{digits}f} {score.low:.{digits}f}-{score.high:.{digits}f}"


def _shown(name: str) -> str:
    """A method's name without the stated prior, which is the same in every row."""
    method, _, rest = name.partition("(")
    return method + rest.partition(")")[2] if rest else method


def _name_width(summary: Summary) -> int:
    """Width of the name column: the longest name and two spaces."""
    return max(len(_shown(row.name)) for row in summary.methods) + 2
