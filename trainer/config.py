"""Settings of a training run, and the recipe of each family. Every default is written here, once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import get_args

from potstill.contract.checkpoint import GoldUse, Student
from potstill.contract.errors import UserError
from potstill.contract.scores.bounds import Promise, Rule

LOSSES = ("cls", "reg", "soft_ce", "kl")  # what training/losses.py knows
N_FEW = 400  # training texts up to which the learning rate is that for few


@dataclass(frozen=True)
class Recipe:
    """A family's defaults."""

    rate: float  # peak learning rate of the body, for thousands of texts; an encoder is only fine-tuned
    head_rate: float  # peak learning rate of randomly initialized weights: the head, and a pooler under it
    min_steps: int
    min_epochs: int
    max_epochs: int
    part_cost: float  # fixed cost of a pass over a part of a batch, in ids; see `training/batches.py`
    ids_per_token: int = 1  # ids for each of max_tokens: an English token has about four bytes
    freezes_embeddings: bool = False
    rate_for_few: float | None = None  # the body's rate for N_FEW texts or fewer; None: the same

    def rate_for(self, n_texts: int) -> float:
        """The body's peak learning rate; it falls with the root of the number of texts, from the rate for few to that for many.

        More steps need smaller ones, and a body that learns fast memorizes its teacher's errors (docs/log.md).
        """
        few = self.rate_for_few or self.rate
        return max(self.rate, few * min(1.0, math.sqrt(N_FEW / n_texts)))


MANY_LABELS = 20  # outputs; with more of them, as with several questions, there is much to learn from the same texts
MUCH_EPOCHS = 3  # times the least number of epochs that are planned then
RECIPES = {
    "encoder": Recipe(
        rate=5e-5,
        rate_for_few=1e-4,
        head_rate=2e-3,
        min_steps=120,
        min_epochs=2,
        max_epochs=8,
        part_cost=32,
        freezes_embeddings=True,
    ),
    "static": Recipe(rate=2e-3, head_rate=1e-2, min_steps=600, min_epochs=6, max_epochs=30, part_cost=math.inf),
    "charformer": Recipe(rate=5e-4, head_rate=2.5e-3, min_steps=600, min_epochs=6, max_epochs=30, part_cost=128, ids_per_token=4),
}


def find_recipe(family: str) -> Recipe:
    """Look a family's recipe up; raises UserError listing the families."""
    if family not in RECIPES:
        raise UserError(f"family is {family!r}; allowed: {', '.join(RECIPES)}")
    return RECIPES[family]


WEIGHTINGS = ("even", "certainty")
GOLD_USES: tuple[str, ...] = get_args(GoldUse)
DEFAULT_FOLDS = 5


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training run.

    The defaults are for a sentence encoder of about 20 million parameters, and a few hundred to many thousand texts.

    Raises:
        UserError: for the first value that is out of range, or does not fit another.
    """

    family: str = "encoder"  # one of encoder, static, charformer
    backbone: str = "all-minilm-l6-v2"  # a name of the catalog, or a folder with a transformers encoder
    init: str | None = None  # a folder to start from instead: a checkpoint, or any model of the family
    from_student: str | None = None  # a checkpoint whose answers replace the soft labels
    pool: str | None = None  # a file of unlabelled texts, for from_student to answer or for masked pretraining
    use_gold: str | None = None  # a file of gold texts whose labels are trained on; None: no gold label ever is
    gold_as: GoldUse = "replace"  # what a gold label does to the teacher's label of the same text
    gold_right: float | None = None  # how often gold labels are right, above 0 to 1, where they are weighed; None: estimated
    tapt: int = 0  # steps of masked pretraining of an encoder (task-adaptive pretraining)
    pretrain: int = 0  # the same for a charformer, which masks bytes
    loss: str = "soft_ce"  # one of cls, reg, soft_ce, kl
    distill_temperature: float = 2.0  # for the loss kl, which flattens both distributions
    label_smoothing: float = 0.0  # share of every target that is spread evenly over the labels, from 0 to below 1
    weighting: str | None = None  # of the texts in the loss, even or certainty; None: see weigh_by
    min_agreement: float = 5 / 8  # share of a text's paths, 0 to 1; texts below are not trained on
    epochs: int | None = None  # at most; None: by the number of texts, see n_epochs
    patience: int = 2  # epochs without a lower validation loss after which training stops; see min_validation
    min_validation: int = (
        200  # validation texts; with fewer the last epoch is kept, because the best one would be a matter of chance
    )
    batch_size: int = 16  # texts
    learning_rate: float | None = None  # peak rate of the body; None: by family and number of texts, see rates
    head_rate: float | None = None  # peak rate of randomly initialized weights: head and pooler; None: by family
    warmup_share: float = 0.1  # of the steps, 0 to 1
    weight_decay: float = 0.01
    max_tokens: int = 128  # with special tokens; longer texts are truncated
    validation_share: float = 0.15  # of all texts, above 0 and below 1
    precision: float | None = None  # wanted of each label's answers on held-out texts, above 0 and at most 1; None: no thresholds
    coverage: float | None = None  # wanted of the label sets there, above 0 and below 1; None: no label sets
    rule: Rule = Promise.rule  # how both are promised
    confidence: float = Promise.confidence  # of a bound
    seed: int = 0
    threads: int | None = None  # CPU threads; None: as many as torch takes
    save_every: float = 60.0  # least seconds between two states that a killed run resumes from
    seeds: int = 1  # students to train; the mean answer of several is distilled into one more
    folds: int | None = None  # folds of the training texts; each of several students leaves one out; 1: none; None: see n_folds
    teacher_weight: float = 0.5  # of the teacher's label in the last student's target, next to the ensemble's mean, 0 to 1

    def __post_init__(self) -> None:
        """Check every value; raises UserError."""
        find_recipe(self.family)
        for name, steps, family in (("tapt", self.tapt, "encoder"), ("pretrain", self.pretrain, "charformer")):
            _check(name, steps, steps >= 0, "at least 0")
            if steps and self.family != family:
                raise UserError(f"{name} is {steps}, but only family {family} takes it, not {self.family}")
        if self.pool and not (self.from_student or self.tapt or self.pretrain):
            raise UserError(f"pool is {self.pool!r}, but nothing would use it; add --from, --tapt or --pretrain")
        if self.use_gold and self.from_student:
            raise UserError(
                "--from replaces every label by a student's answer, so --use-gold would do nothing; give one of the two"
            )
        _check("gold_as", repr(self.gold_as), self.gold_as in GOLD_USES, f"one of {', '.join(GOLD_USES)}")
        _check("gold_right", self.gold_right, self.gold_right is None or 0 < self.gold_right <= 1, "above 0 and at most 1")
        if self.gold_right is not None and (self.gold_as != "weigh" or not self.use_gold):
            raise UserError(
                f"gold_right is {self.gold_right:g}, but only gold labels that are weighed need it; add --use-gold, --gold-as weigh"
            )
        _check("distill_temperature", self.distill_temperature, 0 < self.distill_temperature < float("inf"), "above 0")
        _check("label_smoothing", self.label_smoothing, 0 <= self.label_smoothing < 1, "at least 0 and below 1")
        _check("weighting", repr(self.weighting), self.weighting in (None, *WEIGHTINGS), f"one of {', '.join(WEIGHTINGS)}")
        _check("min_agreement", self.min_agreement, 0 <= self.min_agreement <= 1, "from 0 to 1")
        _check("epochs", self.epochs, self.epochs is None or self.epochs >= 1, "at least 1")
        _check("patience", self.patience, self.patience >= 1, "at least 1")
        _check("min_validation", self.min_validation, self.min_validation >= 1, "at least 1")
        _check("batch_size", self.batch_size, self.batch_size >= 1, "at least 1")
        for name, rate in (("learning_rate", self.learning_rate), ("head_rate", self.head_rate)):
            _check(name, rate, rate is None or 0 < rate < float("inf"), "above 0")
        _check("warmup_share", self.warmup_share, 0 <= self.warmup_share <= 1, "from 0 to 1")
        _check("weight_decay", self.weight_decay, 0 <= self.weight_decay < float("inf"), "at least 0")
        _check("validation_share", self.validation_share, 0 < self.validation_share < 1, "above 0 and below 1")
        _check("precision", self.precision, self.precision is None or 0 < self.precision <= 1, "above 0 and at most 1")
        _check("coverage", self.coverage, self.coverage is None or 0 < self.coverage < 1, "above 0 and below 1")
        Promise(self.rule, self.confidence)
        _check("seed", self.seed, 0 <= self.seed < 2**32, "from 0 to 4294967295")
        _check("save_every", self.save_every, self.save_every >= 0, "at least 0")
        _check("seeds", self.seeds, self.seeds >= 1, "at least 1")
        folds_fit = self.folds is None or 1 <= self.folds <= self.seeds
        _check("folds", self.folds, folds_fit, f"from 1 to the number of seeds, {self.seeds}")
        if self.seeds > 1 and self.from_student:
            raise UserError("both --seeds and --from replace the teacher's labels; give one of the two")
        _check("teacher_weight", self.teacher_weight, 0 <= self.teacher_weight <= 1, "from 0 to 1")
        _check("threads", self.threads, self.threads is None or self.threads >= 1, "at least 1")

    @property
    def promise(self) -> Promise:
        """How precision and coverage are promised."""
        return Promise(self.rule, self.confidence)

    @property
    def weigh_by(self) -> str:
        """The weighting of texts: by default "certainty" for soft labels and "even" for another student's answers.

        A student's answers have no noise that weights should damp; learning the certain ones first would shift the label shares.
        """
        return self.weighting or ("even" if self.from_student else "certainty")

    @property
    def pretraining(self) -> tuple[str, int]:
        """(stage, steps) of masked pretraining; 0 steps for a family without it."""
        return ("tapt", self.tapt) if self.family == "encoder" else ("pretrain", self.pretrain)

    @property
    def n_folds(self) -> int:
        """Folds of an ensemble: by default 5, or the number of students if that is smaller.

        More folds mean more texts for each student, and fewer students that were not trained on a given text.
        """
        return min(self.seeds, DEFAULT_FOLDS) if self.folds is None else self.folds

    def n_epochs(self, n_texts: int, n_labels: int = 2, n_questions: int = 1) -> int:
        """Epochs to plan for ``n_texts`` training texts and a student with ``n_labels`` outputs for ``n_questions`` questions.

        A few hundred texts need several epochs for enough steps; thousands need few, and more would only learn the teacher's noise.
        With many labels each is met in few texts, and several questions share the same steps, so the held-out loss falls for
        longer: of 77 labels from 1.10 after 2 epochs to 1.02 after 6, of four questions from 0.63 to 0.58 (docs/results.md).
        """
        if self.epochs is not None:
            return self.epochs
        recipe = find_recipe(self.family)
        steps_per_epoch = max(1, -(-n_texts // self.batch_size))
        least = recipe.min_epochs * (MUCH_EPOCHS if n_labels > MANY_LABELS or n_questions > 1 else 1)
        return min(recipe.max_epochs, max(least, -(-recipe.min_steps // steps_per_epoch)))

    def rates(self, n_texts: int) -> tuple[float, float]:
        """(peak learning rate of the body, of the head) for ``n_texts`` training texts."""
        recipe = find_recipe(self.family)
        return self.learning_rate or recipe.rate_for(n_texts), self.head_rate or recipe.head_rate

    @property
    def max_ids(self) -> int:
        """Most ids of a text, tokens or bytes; longer texts are truncated."""
        return self.max_tokens * find_recipe(self.family).ids_per_token


def as_trained(student: Student, *, min_agreement: float = TrainConfig.min_agreement) -> TrainConfig:
    """The settings recorded in a student; the rest are defaults. Args: min_agreement, 0 to 1, which is not recorded."""
    return TrainConfig(
        family=student.family,
        backbone=student.backbone,
        loss=student.loss,
        seed=student.seed,
        max_tokens=student.max_tokens // find_recipe(student.family).ids_per_token,
        min_agreement=min_agreement,
    )


def _check(name: str, value: object, fits: bool, allowed: str) -> None:
    """Raise UserError for a value that is out of range."""
    if not fits:
        raise UserError(f"{name} is {value}; it must be {allowed}")


MAP_TEXTS, MAX_MAP_TEXTS = 1000, 2000  # of a report; beyond the second, dots lie on each other, and each adds 0.3 KB to the page


@dataclass(frozen=True)
class ReportConfig:
    """Settings of a report."""

    patterns: Mapping[str, str] = field(default_factory=dict)  # regular expressions by name of the slice
    n_mistakes: int = 20  # the most confident first
    learning_curve: bool = False  # trains four more students
