"""The chosen way to label as settings: a table for `project.toml`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from potstill.labeler.aggregation.config import DEFAULTS
from potstill.labeler.config import LabelConfig
from potstill.labeler.tuning.trial import Trial

Settings = dict[str, Any]  # by the names that the tables of a project and the options of the console share


def tuned_settings(trial: Trial) -> Settings:
    """Everything that was compared, also where it is the default, and what it needs."""
    config, derive = trial.config, trial.derive
    found: Settings = {"mode": config.mode, "n_paths": config.n_paths}
    if config.mode == "cascade":
        found |= {"n_direct": config.n_direct, "uncertain": config.uncertain}
    found |= {"template": config.template, "guideline": config.guideline, "examples": config.examples}
    if config.n_examples_per_label != LabelConfig.n_examples_per_label:
        found["n_examples_per_label"] = config.n_examples_per_label
    if config.seed != LabelConfig.seed:
        found["seed"] = config.seed
    found |= {"method": derive.method, "weighting": derive.weighting, "smooth": derive.smooth}
    if derive.backbone != DEFAULTS.backbone and (derive.smooth or config.examples == "nearest"):
        found["backbone"] = derive.backbone
    return found


def tuned_toml(settings: Mapping[str, Any], remarks: Sequence[str]) -> str:
    """The table `[label]` of a project, under remarks of a line each."""
    lines = [f"# {line}" for line in remarks]
    return "\n".join([*lines, "[label]", *(f"{name} = {_value(value)}" for name, value in settings.items())]) + "\n"


def _value(value: bool | float | str) -> str:
    """A value in TOML, whose basic strings take the escapes of JSON."""
    return json.dumps(value, ensure_ascii=False)
