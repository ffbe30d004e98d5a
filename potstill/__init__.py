"""Turn a local LLM into an annotator, and its judgement into a classifier small enough for a CPU.

The public names: the calls that the commands of the console make, and their configurations. Each is loaded when it is first used.

    import potstill

    potstill.label("task.toml", "texts.xlsx", "out")                       # a teacher reads the texts: a file, a list, a DataFrame
    potstill.distill("task.toml", "out/soft_labels.parquet", "student")    # a small encoder learns its labels
    potstill.export_bundle("student", "bundle")                            # as int8 ONNX, proved against the checkpoint
    with potstill.Classifier.open("bundle") as classifier:
        print(classifier.classify(["bought more this morning"])[0].label)
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

from potstill.contract.system import telemetry

if TYPE_CHECKING:
    from potstill.api import calibrate, certify, distill, evaluate, export_bundle, label, plan
    from potstill.contract.errors import UserError
    from potstill.contract.task import Example, Label, Task, load_task
    from potstill.export.config import CardMetadata, ExportConfig, PushConfig
    from potstill.export.layouts.push import push_to_hub
    from potstill.labeler.aggregation.config import DeriveConfig
    from potstill.labeler.config import LabelConfig, PlanConfig
    from potstill.labeler.teachers.config import TeacherConfig, ThenConfig
    from potstill.labeler.weak_supervision.config import CombineConfig
    from potstill.serve.config import CertifyConfig
    from potstill.serve.http.config import ServeConfig
    from potstill.serve.offline.certify import certify_bundle
    from potstill.serve.run import serve as serve_bundles
    from potstill.serve.runtime.classifier import Classifier
    from potstill.trainer.calibrate_on_gold import ConfidenceConfig
    from potstill.trainer.config import TrainConfig
    from potstill.trainer.run import train
    from potstill.workflows.evaluation import EvaluateConfig
    from potstill.workflows.labels.combining import combine
    from potstill.workflows.labels.soft_labels import derive
    from potstill.workflows.labels.sources import SourceConfig
    from potstill.workflows.pipeline import run_project

__all__ = [
    "Task",
    "Label",
    "Example",
    "load_task",
    "label",
    "LabelConfig",
    "TeacherConfig",
    "ThenConfig",
    "plan",
    "PlanConfig",
    "derive",
    "DeriveConfig",
    "combine",
    "CombineConfig",
    "SourceConfig",
    "distill",
    "train",
    "TrainConfig",
    "evaluate",
    "EvaluateConfig",
    "calibrate",
    "ConfidenceConfig",
    "export_bundle",
    "ExportConfig",
    "Classifier",
    "push_to_hub",
    "PushConfig",
    "CardMetadata",
    "certify",
    "certify_bundle",
    "CertifyConfig",
    "serve_bundles",
    "ServeConfig",
    "run_project",
    "UserError",
]

# By public name, the file that defines it and its name there; the imports above say the same to type checkers and editors.
_PLACES = {
    "Task": ("potstill.contract.task", "Task"),
    "Label": ("potstill.contract.task", "Label"),
    "Example": ("potstill.contract.task", "Example"),
    "load_task": ("potstill.contract.task", "load_task"),
    "label": ("potstill.api", "label"),
    "LabelConfig": ("potstill.labeler.config", "LabelConfig"),
    "TeacherConfig": ("potstill.labeler.teachers.config", "TeacherConfig"),
    "ThenConfig": ("potstill.labeler.teachers.config", "ThenConfig"),
    "plan": ("potstill.api", "plan"),
    "PlanConfig": ("potstill.labeler.config", "PlanConfig"),
    "derive": ("potstill.workflows.labels.soft_labels", "derive"),
    "DeriveConfig": ("potstill.labeler.aggregation.config", "DeriveConfig"),
    "combine": ("potstill.workflows.labels.combining", "combine"),
    "CombineConfig": ("potstill.labeler.weak_supervision.config", "CombineConfig"),
    "SourceConfig": ("potstill.workflows.labels.sources", "SourceConfig"),
    "distill": ("potstill.api", "distill"),
    "train": ("potstill.trainer.run", "train"),
    "TrainConfig": ("potstill.trainer.config", "TrainConfig"),
    "evaluate": ("potstill.api", "evaluate"),
    "EvaluateConfig": ("potstill.workflows.evaluation", "EvaluateConfig"),
    "calibrate": ("potstill.api", "calibrate"),
    "ConfidenceConfig": ("potstill.trainer.calibrate_on_gold", "ConfidenceConfig"),
    "export_bundle": ("potstill.api", "export_bundle"),
    "ExportConfig": ("potstill.export.config", "ExportConfig"),
    "Classifier": ("potstill.serve.runtime.classifier", "Classifier"),
    "push_to_hub": ("potstill.export.layouts.push", "push_to_hub"),
    "PushConfig": ("potstill.export.config", "PushConfig"),
    "CardMetadata": ("potstill.export.config", "CardMetadata"),
    "certify": ("potstill.api", "certify"),
    "certify_bundle": ("potstill.serve.offline.certify", "certify_bundle"),
    "CertifyConfig": ("potstill.serve.config", "CertifyConfig"),
    "serve_bundles": ("potstill.serve.run", "serve"),
    "ServeConfig": ("potstill.serve.http.config", "ServeConfig"),
    "run_project": ("potstill.workflows.pipeline", "run_project"),
    "UserError": ("potstill.contract.errors", "UserError"),
}

telemetry.switch_off()  # the one thing that importing does: it is too late once onnxruntime is imported


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used; raises AttributeError for any other."""
    if name not in _PLACES:
        raise AttributeError(f"module 'potstill' has no attribute {name!r}")
    module, inner = _PLACES[name]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")  # tqdm's, in a notebook without widgets
        value = getattr(import_module(module), inner)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, and what is loaded."""
    return sorted({*globals(), *_PLACES})
