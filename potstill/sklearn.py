"""The whole way as one scikit-learn estimator: texts in, and a bundle that answers comes out.

from potstill.sklearn import PotstillClassifier

classifier = PotstillClassifier(task="task.toml").fit(texts)        # a teacher labels them, a student learns from it
classifier = PotstillClassifier().fit(texts, labels)                # the student learns labels that are there already
classifier.predict(["bought more this morning"])
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from potstill.contract.errors import UserError
from potstill.contract.soft_label import SoftLabel, write_soft_labels
from potstill.contract.task import Input, Label, Task, as_task
from potstill.contract.texts import Text, write_texts
from potstill.export.config import ExportConfig
from potstill.export.run import export_bundle
from potstill.labeler.config import LabelConfig
from potstill.labeler.teachers.config import TeacherConfig
from potstill.serve.runtime.classifier import Classifier
from potstill.trainer.config import TrainConfig
from potstill.trainer.run import train as train_student
from potstill.workflows.labelling import label as label_texts

GIVEN = "0" * 64  # stands for the teacher's digest where people gave the labels
TEXT, TARGET = "text", "target"  # the columns of a table that are read


class PotstillClassifier(ClassifierMixin, BaseEstimator):
    """Label texts with a local teacher, distil a student, export it, and answer with the bundle.

    `fit(X)` has the teacher label the texts; `fit(X, y)` learns the labels in y, and asks no teacher. X is a list, an array or a
    Series of texts, or a DataFrame with a column `text`, and `target` if the task asks about one. A fitted classifier has
    `classes_` (sorted, as everywhere in scikit-learn), `task_`, and `bundle_`, a folder that `potstill serve` takes. Pickled, it
    carries the bundle.
    """

    def __init__(
        self,
        task: Task | str | Path | None = None,
        *,
        teacher: TeacherConfig | None = None,
        label: LabelConfig | None = None,
        train: TrainConfig | None = None,
        export: ExportConfig | None = None,
        out: str | Path | None = None,
    ) -> None:
        """Keep the settings; nothing is read or checked before :meth:`fit`.

        Args:
            task: of one choice, or its file; may be left out where y is given: then every label stands for itself.
            teacher, label, train, export: settings of the stages; None: their defaults.
            out: the folder for everything that is made; None: a temporary one. Clones that fit at once need one each, so leave it
                out in cross-validation.
        """
        self.task = task
        self.teacher = teacher
        self.label = label
        self.train = train
        self.export = export
        self.out = out

    def fit(self, X: Any, y: Any = None) -> PotstillClassifier:  # noqa: N803 - scikit-learn's name
        """Make the bundle; returns the classifier itself.

        Args:
            X: N texts.
            y: N labels; None: the teacher gives them.
        Raises:
            UserError: if there is neither a task nor y, X is no list of texts, y has another length or labels that the task has
                not, or a stage refuses.
            FormatError: if the task's file is malformed.
        """
        texts = _texts(X)
        given = None if y is None else np.asarray(y)
        if given is not None and given.shape != (len(texts),):
            raise UserError(f"y has the shape {given.shape}; give one label for each of the {len(texts)} texts")
        classes, task = self._classes(texts, given)
        out = self._folder()
        soft_labels = out / "soft_labels.parquet"
        if given is None:
            (out / "texts.jsonl").write_bytes(write_texts(texts))
            teacher, config = self.teacher or TeacherConfig(), self.label or LabelConfig()
            label_texts(task, out / "texts.jsonl", out, config, teacher=teacher)
        else:
            rows = [_row(place, text, str(name), task) for place, (text, name) in enumerate(zip(texts, given, strict=True))]
            write_soft_labels(soft_labels, rows)
        train_student(task, soft_labels, out / "student", self.train or TrainConfig(), unfinished="restart")
        self.bundle_ = export_bundle(out / "student", out / "bundle", self.export or ExportConfig()).bundle
        self.task_, self.classes_ = task, classes
        self._opened: Classifier | None = None
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Calibrated probabilities, float64 [N, C] in the order of `classes_`; each row sums to 1.

        Raises:
            NotFittedError: before :meth:`fit`.
            UserError: if X is no list of texts, or has no targets although the task asks about them.
        """
        check_is_fitted(self, "bundle_")
        texts = _texts(X)
        if self._opened is None:
            self._opened = Classifier.open(self.bundle_)
        targets = [text.target or "" for text in texts] if self.task_.input.target else None
        order = [self.task_.label_names.index(str(name)) for name in self.classes_]
        return self._opened.probs([text.text for text in texts], targets)[:, order]

    def predict(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """The most probable label of each text, [N], of the type of `classes_`; raises as :meth:`predict_proba`."""
        probs = self.predict_proba(X)
        found: NDArray[Any] = self.classes_[probs.argmax(axis=1)]
        return found

    def __sklearn_tags__(self) -> Any:
        """Texts, not numbers; labels are not needed."""
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array, tags.input_tags.two_d_array, tags.input_tags.string = True, False, True
        tags.target_tags.required = False
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        """Whether there is a bundle."""
        return hasattr(self, "bundle_")

    def __getstate__(self) -> dict[str, Any]:
        """The settings, and the files of the bundle."""
        state = dict(super().__getstate__())
        state.pop("_opened", None)
        if "bundle_" in state:
            state["_files"] = {path.name: path.read_bytes() for path in Path(state.pop("bundle_")).iterdir()}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Write the bundle into a temporary folder, which lasts as long as this classifier."""
        files = state.pop("_files", None)
        super().__setstate__(state)
        if files is None:
            return
        self.bundle_, self._opened = self._temporary() / "bundle", None
        self.bundle_.mkdir()
        for name, data in files.items():
            (self.bundle_ / name).write_bytes(data)

    def _temporary(self) -> Path:
        """A new folder, which is removed when this classifier is."""
        folder = tempfile.mkdtemp(prefix="potstill-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return Path(folder)

    def _folder(self) -> Path:
        """The folder to work in, made if it is not there."""
        if self.out is None:
            return self._temporary()
        out = Path(self.out)
        out.mkdir(parents=True, exist_ok=True)
        return out

    def _classes(self, texts: list[Text], given: NDArray[Any] | None) -> tuple[NDArray[Any], Task]:
        """(the labels in sorted order, the task)."""
        if self.task is not None:
            task = as_task(self.task)
            wrong = set() if given is None else set(given.tolist()) - set(task.label_names)
            if wrong:
                allowed = ", ".join(task.label_names)
                raise UserError(f"y has {min(map(repr, wrong))}, which is not a label of the task; allowed: {allowed}")
            return np.array(sorted(task.label_names)), task
        if given is None:
            raise UserError("there is neither a task nor y; give a task whose question a teacher answers, or labels to learn")
        classes = np.unique(given)
        if len(classes) < 2:
            raise UserError(f"y has only the label {classes.tolist()[0]!r}; there must be at least 2")
        labels = [Label(name=str(name), meaning=str(name)) for name in classes]
        about = Input(target=any(text.target is not None for text in texts))
        return classes, Task(format=1, name="texts", question="Which label fits?", labels=labels, input=about)


def _texts(rows: Any) -> list[Text]:
    """The texts of a list, an array, a Series or a DataFrame; raises UserError."""
    if isinstance(rows, str | bytes):
        raise UserError("X is one string; give a list of texts")
    targets: list[Any] | None = None
    if hasattr(rows, "columns"):
        if TEXT not in rows.columns:
            raise UserError(f"the table has the columns {', '.join(map(str, rows.columns))}; one must be {TEXT!r}")
        targets = rows[TARGET].tolist() if TARGET in rows.columns else None
        rows = rows[TEXT]
    found = np.asarray(rows, dtype=object)
    if found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    if found.ndim != 1 or not found.size:
        raise UserError(f"X has the shape {found.shape}; give at least one text, in one column")
    for place, text in enumerate(found.tolist()):
        if not isinstance(text, str):
            raise UserError(f"X[{place}] is {text!r}; every text must be a string")
    abouts = targets or [None] * len(found)
    return [Text(text, target=about) for text, about in zip(found.tolist(), abouts, strict=True)]


def _row(place: int, text: Text, name: str, task: Task) -> SoftLabel:
    """A given label as a soft label: all of the probability."""
    sure = {label: float(label == name) for label in task.label_names}
    votes = {label: int(label == name) for label in task.label_names}
    return SoftLabel(
        id=str(place),
        text=text.text,
        target=text.target,
        probs=sure,
        votes=votes,
        agreement=1.0,
        n_paths=1,
        entropy=0.0,
        label_mass=1.0,
        method="given",
        teacher_digest=GIVEN,
        task_digest=task.digest,
    )
