"""What a training run tells the person who started it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from potstill.contract.checkpoint import Student
from potstill.trainer.calibrate_held_out import Judgement
from potstill.trainer.data.selection import Selection
from potstill.trainer.training.ensemble import Members
from potstill.trainer.training.fit import Fit


@dataclass(frozen=True)
class TrainReport:
    """A finished run: where the student is, and how it came about."""

    checkpoint: Path
    student: Student
    selection: Selection
    fit: Fit
    judgement: Judgement
    warnings: tuple[str, ...]
    seconds: float
    members: Members | None = None  # several students whose mean this one was taught

    @property
    def n_kept(self) -> int:
        """Texts that were trained on."""
        return len(self.selection.kept)

    @property
    def n_dropped(self) -> int:
        """Texts on the training side that were not trained on."""
        return self.selection.n_dropped

    def as_text(self) -> str:
        """A few lines, the last one naming the checkpoint; warnings come first."""
        student = self.student
        scores = student.scores["validation"]
        lines = [
            *(f"warning: {warning}" for warning in self.warnings),
            f"trained on {self.n_kept} texts with loss {student.loss}; left out {self.n_dropped} "
            f"({self.selection.n_disagreed} below the wanted agreement, {self.selection.n_unread} that no path could label)",
            *self.fit.notes,
            f"kept {self.fit.as_text()}",
            self.judgement.as_text(),
            *(self.members.as_text().splitlines() if self.members else []),
            f"agrees with the teacher on {student.n_validation} held-out texts: "
            f"accuracy {scores['accuracy'].as_text()}, macro-F1 {scores['macro_f1'].as_text()}",
            f"wrote {self.checkpoint} in {self.seconds:.0f} s",
        ]
        return "\n".join(lines)
