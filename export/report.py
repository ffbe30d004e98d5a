"""The report of an export: a table of the forms that were tried, and which one was written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from potstill.contract.bundle import Manifest
from potstill.contract.interchange.notebook import Shown
from potstill.contract.promises.familiarity import Familiarity, fewest_held_out
from potstill.export.config import FLOAT, FUSED, TRAINED
from potstill.export.gate.quality import FormQuality, PrunedVocabulary, Quality

HINT_QAT = "no int8 form passed; --qat trains the student against int8 and tries again"
HINT_LIMITS = "no int8 form passed, trained against int8 or not; allow more with --max-drop, --min-agreement or --max-change"


@dataclass(frozen=True, repr=False)
class ExportReport(Shown):
    """The written bundle, with the measurements of every form that was tried."""

    bundle: Path
    manifest: Manifest
    quality: Quality
    size_bytes: int
    familiarity: Familiarity | None = None  # None: the bundle cannot tell an unfamiliar text
    unfamiliar_rate: float = 0.05  # that was asked for

    def as_text(self) -> str:
        """A table of the forms, hints, and one line on the bundle."""
        n, more = self.quality.n_validation, self.quality.forms[0].n - self.quality.n_validation
        texts = f"on {n} validation texts" + (f" and {more} others that the quantizer has not seen" if more else "")
        score = "macro-F1" if self.quality.forms[0].questions is None else "score"
        head = (
            f"{'form':<23}{'ms':>7}{'MB':>7}{score:>10}{'log-loss':>9}{'same label':>11}{'most change':>12}{'in a batch':>11}"
            f"{'padded':>9}  verdict"
        )
        lines = [f"{texts}:", head, *(line for form in self.quality.forms for line in [_row(form), *_questions(form)])]
        lines += [f"not tried: {variant}, because {reason}" for variant, reason in self.quality.not_tried.items()]
        lines += [_pruning_line(self.quality.pruned)] if self.quality.pruned else []
        invariant = "the same in any batch" if self.manifest.batch_invariant else "not the same in every batch"
        why = ""
        if self.manifest.variant == FLOAT and len(self.quality.forms) > 1:
            why = ", because no other form passed" if all(form.problem for form in self.quality.forms[1:]) else ", the fastest"
        lines += [self._familiarity_line(), *self._hints()]
        return "\n".join(
            [*lines, f"{self.bundle}: {self.manifest.variant}{why}, {self.size_bytes / 1e6:.1f} MB, answers are {invariant}"]
        )

    def cells(self) -> list[list[str]]:
        """A row for each form that was tried: time for one text, size, score, and whether it passed."""
        rows = [
            [form.variant, f"{form.ms_p50:.2f}", f"{form.bytes / 1e6:.1f}", f"{form.agreement:.4f}", form.problem or "passed"]
            for form in self.quality.forms
        ]
        return [["form", "ms", "MB", "same label", "verdict"], *rows]

    def _familiarity_line(self) -> str:
        """Whether the bundle can tell unfamiliar texts, and how often it may be wrong."""
        found = self.familiarity
        if found is None:
            least, n = fewest_held_out(self.unfamiliar_rate), self.quality.n_validation
            return f"unfamiliar texts are not told: a rate of {self.unfamiliar_rate:g} needs {least} validation texts, here are {n}"
        return f"unfamiliar texts are told, with on average at most {found.rate:.1%} false alarms, by {found.n} validation texts"

    def _hints(self) -> list[str]:
        """What to try next if int8 forms were tried and all refused; at most one line."""
        int8 = [form for form in self.quality.forms if form.variant not in (FLOAT, FUSED)]
        if not int8 or not all(form.problem for form in int8):
            return []
        return [HINT_LIMITS if TRAINED in (form.variant for form in int8) else HINT_QAT]


def _pruning_line(vocabulary: PrunedVocabulary) -> str:
    """The effect of a pruned vocabulary."""
    v = vocabulary
    return (
        f"vocabulary: {v.n_pieces} of {v.n_pieces_before} pieces; float {v.bytes_before / 1e6:.1f} -> {v.bytes / 1e6:.1f} MB, "
        f"{v.ms_p50_before:.2f} -> {v.ms_p50:.2f} ms, macro-F1 {v.macro_f1_before:.4f} -> {v.macro_f1:.4f}; "
        f"{v.respelled} of {v.n} texts are tokenized differently, {v.flips} change their label"
    )


def _questions(form: FormQuality) -> list[str]:
    """A line for each of several questions."""
    return [
        f"  {one.name:<35}{one.score:>10.4f}{one.log_loss:>9.4f}{one.agreement:>11.4f}  {one.metric} on {one.n_validation} texts"
        for one in form.questions or []
    ]


def _row(form: FormQuality) -> str:
    """A form's row of the table."""
    return (
        f"{form.variant:<23}{form.ms_p50:>7.2f}{form.bytes / 1e6:>7.1f}{form.macro_f1:>10.4f}{form.log_loss:>9.4f}"
        f"{form.agreement:>11.4f}{form.prob_change_max:>12.4f}{form.batch_change_max:>11.2g}{form.padding_change_max:>9.2g}"
        f"  {form.problem or ('passed' + (f': {form.note}' if form.note else ''))}"
    )
