"""A bundle as an MLflow model: logged, registered, loaded and served like any other pyfunc.

import potstill.mlflow

with mlflow.start_run():
    info = potstill.mlflow.log_model("bundle", name="stance")
mlflow.pyfunc.load_model(info.model_uri).predict(pandas.DataFrame({"text": ["bought more this morning"]}))
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import pyfunc
from mlflow.models import ModelSignature
from mlflow.types.schema import Array, ColSpec, DataType, Schema

from potstill.contract.bundle import Manifest, read_golden, read_manifest, verify_files
from potstill.contract.files import atomic
from potstill.serve.runtime.classifier import Answer, Classifier
from potstill.serve.runtime.heads import QuestionAnswer

ARTIFACT = "bundle"  # the folder inside the model
TEXT, TARGET = "text", "target"  # columns of the input
CODE = """\
from mlflow.models import set_model

from potstill.mlflow import PotstillModel

set_model(PotstillModel())
"""


class PotstillModel(pyfunc.PythonModel):  # type: ignore[misc]  # mlflow's types are not read here
    """Answers tables of texts with a bundle.

    In: a column `text`, and `target` if the task asks about one. Out, a row for each text, with its index: `label`, `prob` (of the
    label, 0 to 1), `abstain`, and `probs.LABEL` for each label. Of several questions the same columns for each, such as
    `QUESTION.label`; of one about tags `QUESTION.tags`, a list, in place of label, prob and abstain.
    `model_config` may have `threads` (cores that one text may use) and `trust`, as `Classifier.open` has them.
    """

    def load_context(self, context: Any) -> None:
        """Open the bundle; raises as `Classifier.open`."""
        settings = context.model_config or {}
        self._classifier = Classifier.open(
            context.artifacts[ARTIFACT], threads=int(settings.get("threads", 1)), trust=bool(settings.get("trust", False))
        )

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """The answers. Args: context and params, which MLflow gives; neither matters here. Raises as `Classifier.classify`."""
        targets = model_input[TARGET].tolist() if self._classifier.manifest.target else None
        answers = self._classifier.classify(model_input[TEXT].tolist(), targets)
        names = [column.name for column in _output(self._classifier.manifest)]
        return pd.DataFrame([_row(answer) for answer in answers], index=model_input.index, columns=names)


def log_model(bundle: str | Path, name: str = "classifier", **options: Any) -> Any:
    """Log a bundle as a model of the current run; MLflow's `ModelInfo`.

    Args:
        bundle: the folder; its files are checked first.
        name: of the model in the run.
        options: of `mlflow.pyfunc.log_model`, such as registered_model_name.
    Raises:
        FormatError: if the bundle is malformed or was changed.
    """
    with _parts(Path(bundle)) as parts:
        return pyfunc.log_model(name=name, **parts, **options)


def save_model(bundle: str | Path, path: str | Path, **options: Any) -> None:
    """Write a bundle as a model in a folder. Args: options, of `mlflow.pyfunc.save_model`; the rest as :func:`log_model`."""
    with _parts(Path(bundle)) as parts:
        pyfunc.save_model(path=str(path), **parts, **options)


def signature(manifest: Manifest) -> ModelSignature:
    """The columns that go in and come out."""
    columns = [ColSpec(DataType.string, TEXT), *([ColSpec(DataType.string, TARGET)] if manifest.target else [])]
    return ModelSignature(inputs=Schema(columns), outputs=Schema(_output(manifest)))


@contextmanager
def _parts(bundle: Path) -> Iterator[dict[str, Any]]:
    """What MLflow keeps of a bundle, while the block lasts. The model goes as code, so that loading it runs no pickle."""
    verify_files(bundle)
    manifest, golden = read_manifest(bundle), read_golden(bundle)[0]
    with atomic.scratch("potstill-mlflow") as folder:
        code = folder / "potstill_model.py"
        code.write_text(CODE, encoding="utf-8")
        yield {
            "python_model": str(code),
            "artifacts": {ARTIFACT: str(bundle.resolve())},
            "signature": signature(manifest),
            "input_example": pd.DataFrame([{TEXT: golden.text, **({TARGET: golden.target} if manifest.target else {})}]),
            "pip_requirements": [f"potstill[mlflow,serve]=={metadata.version('potstill')}"],
        }


def _output(manifest: Manifest) -> list[ColSpec]:
    """The columns of the answers."""
    if manifest.heads is None:
        return _columns("", manifest.labels, tags=False)
    return [one for head in manifest.heads for one in _columns(f"{head.name}.", head.labels, tags=not head.is_softmax)]


def _columns(where: str, labels: list[str], *, tags: bool) -> list[ColSpec]:
    """The columns of one question. Args: where, what their names begin with."""
    kinds = {"label": DataType.string, "prob": DataType.double, "abstain": DataType.boolean}
    first = (
        [ColSpec(Array(DataType.string), f"{where}tags")] if tags else [ColSpec(kind, where + name) for name, kind in kinds.items()]
    )
    return [*first, *(ColSpec(DataType.double, f"{where}probs.{label}") for label in labels)]


def _row(answer: Answer) -> dict[str, Any]:
    """The answer to one text, by column."""
    if answer.questions is None:
        return _cells("", answer)
    return {name: cell for question, one in answer.questions.items() for name, cell in _cells(f"{question}.", one).items()}


def _cells(where: str, one: Answer | QuestionAnswer) -> dict[str, Any]:
    """The answer to one question, by column."""
    probs = {f"{where}probs.{label}": prob for label, prob in one.probs.items()}
    if isinstance(one, QuestionAnswer) and one.tags is not None:
        return {f"{where}tags": one.tags, **probs}
    return {f"{where}label": one.label, f"{where}prob": one.probs[one.label], f"{where}abstain": one.abstain, **probs}
