"""What a training run can be told; every default is written here, once."""

from __future__ import annotations

import math
from dataclasses import dataclass

from potstill.contract.checkpoint import Student
from potstill.contract.errors import UserError

N_FEW = 400  # texts


@dataclass(frozen=True)
class Recipe:
    """A family's own settings."""

    rate: float  # highest learning rate of the body, for thousands of texts; an encoder is fine-tuned, the others learn most
    head_rate: float  # of what starts from nothing: the head, and a pooler under it
    min_steps: int
    min_epochs: int
    max_epochs: int
    part_cost: (
        float  # tokens (bytes for bytes) that a pass over a part of a batch costs beside its own; see `trainer/training/batches.py`
    )
    ids_per_token: int = 1  # times max_tokens: a byte is no token, an English token has about four
    freezes_embeddings: bool = False
    rate_for_few: float | None = None  # the body's with N_FEW texts or fewer; None: the same

    def rate_for(self, n_texts: int) -> float:
        """The body's highest learning rate: it falls with the root of the number of texts, from that for few to that for many.

        The more steps, the less each has to move; and a fast body learns by heart how its teacher errs (docs/log.md).
        """
        few = self.rate_for_few or self.rate
        return max(self.rate, few * min(1.0, math.sqrt(N_FEW / n_texts)))


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
    """The family's recipe; raises UserError listing the families."""
    if family not in RECIPES:
        raise UserError(f"family is {family!r}; allowed: {', '.join(RECIPES)}")
    return RECIPES[family]


WEIGHTINGS = ("even", "certainty")
DEFAULT_FOLDS = 5


@dataclass(frozen=True)
class TrainConfig:
    """How to train a student.

    The defaults are for a sentence encoder of about 20 million parameters, on anything from a few hundred to many thousand texts.

    Raises:
        UserError: naming the first value that is out of its range.
    """

    family: str = "encoder"  # an entry of potstill.trainer.recipe.RECIPES
    backbone: str = "all-minilm-l6-v2"  # a name of the catalog, or a folder with a transformers encoder
    init: str | None = None  # a folder whose weights training starts from instead: a checkpoint, or any of the family
    from_student: str | None = None  # a checkpoint whose answers are trained on instead of the soft labels
    pool: str | None = None  # a file of texts without labels: answered by from_student, read by masked pre-training
    tapt: int = 0  # steps of masked reading of an encoder before it sees a label: task-adaptive pre-training
    pretrain: int = 0  # the same of a charformer, which hides bytes
    loss: str = "soft_ce"  # an entry of potstill.trainer.training.losses.OBJECTIVES
    distill_temperature: float = 2.0  # of the loss kl: both distributions are flattened by it
    label_smoothing: float = 0.0  # share of every target that is spread evenly over the labels, 0 to 1
    weighting: str | None = None  # of the texts in the loss, one of WEIGHTINGS; None: see weigh_by
    min_agreement: float = 5 / 8  # share of a text's paths, 0 to 1; texts below it are not trained on
    epochs: int | None = None  # at most; None: chosen by the number of texts, see n_epochs
    patience: int = 2  # epochs without a lower validation loss before training stops; see min_validation
    min_validation: int = 200  # texts; with fewer the last epoch is kept, because chance would choose among the epochs
    batch_size: int = 16  # texts
    learning_rate: float | None = None  # highest, of the body; None: by family and number of texts, see rates
    head_rate: float | None = None  # highest, of what starts from nothing: the head, and a pooler under it; None: by family
    warmup_share: float = 0.1  # of the steps, 0 to 1
    weight_decay: float = 0.01
    max_tokens: int = 128  # special tokens count; longer texts are truncated
    validation_share: float = 0.15  # of all texts, above 0 and below 1
    precision: float | None = None  # wanted of every label's answers on the texts held out, above 0 and at most 1; None: none
    coverage: float | None = None  # wanted of the label sets there, above 0 and below 1; None: no sets
    seed: int = 0
    threads: int | None = None  # CPU threads; None: as many as torch takes
    save_every: float = 60.0  # seconds between two states that a killed run goes on from, at least
    seeds: int = 1  # students that are trained; of several, the mean of their answers is distilled into one more
    folds: int | None = None  # of several students each leaves out one in so many texts; 1: none; None: see n_folds
    teacher_weight: float = 0.5  # of the teacher's label in what the one is taught, beside the mean of the several, 0 to 1

    def __post_init__(self) -> None:
        """Refuse what cannot train; raises UserError."""
        find_recipe(self.family)
        for name, steps, family in (("tapt", self.tapt, "encoder"), ("pretrain", self.pretrain, "charformer")):
            _check(name, steps, steps >= 0, "at least 0")
            if steps and self.family != family:
                raise UserError(f"{name} is {steps}, but a student of family {self.family} takes none; use family {family}")
        if self.pool and not (self.from_student or self.tapt or self.pretrain):
            raise UserError(
                f"pool is {self.pool!r}, but nothing would read it; name a student to answer it (--from), or let a new one read it "
                "(--tapt, --pretrain)"
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
        _check("seed", self.seed, 0 <= self.seed < 2**32, "from 0 to 4294967295")
        _check("save_every", self.save_every, self.save_every >= 0, "at least 0")
        _check("seeds", self.seeds, self.seeds >= 1, "at least 1")
        folds_fit = self.folds is None or 1 <= self.folds <= self.seeds
        _check("folds", self.folds, folds_fit, f"from 1 to the number of seeds, {self.seeds}")
        if self.seeds > 1 and self.from_student:
            raise UserError("several seeds and another student both stand in for the teacher's labels; give one of the two")
        _check("teacher_weight", self.teacher_weight, 0 <= self.teacher_weight <= 1, "from 0 to 1")
        _check("threads", self.threads, self.threads is None or self.threads >= 1, "at least 1")

    @property
    def weigh_by(self) -> str:
        """What a text counts: as much as its soft label says, one minus its entropy over that of even shares ("certainty").

        Another student's answers are all meant alike ("even"): they have no noise to be held down, and who learns the sure ones
        first learns other shares of labels.
        """
        return self.weighting or ("even" if self.from_student else "certainty")

    @property
    def masked_reading(self) -> tuple[str, int]:
        """(what it is called, steps) of the masked reading before training; of a family that has none 0 steps."""
        return ("tapt", self.tapt) if self.family == "encoder" else ("pretrain", self.pretrain)

    @property
    def n_folds(self) -> int:
        """Folds among several students: by default 5, or as many as there are students if they are fewer.

        The more folds, the more texts each student learns from, and the fewer have not seen a given text.
        """
        return min(self.seeds, DEFAULT_FOLDS) if self.folds is None else self.folds

    def n_epochs(self, n_texts: int) -> int:
        """Epochs to plan for ``n_texts`` training texts.

        A few hundred texts need several passes to make enough steps; thousands need few, and more would only learn the
        teacher's noise.
        """
        if self.epochs is not None:
            return self.epochs
        recipe = find_recipe(self.family)
        steps_per_epoch = max(1, -(-n_texts // self.batch_size))
        return min(recipe.max_epochs, max(recipe.min_epochs, -(-recipe.min_steps // steps_per_epoch)))

    def rates(self, n_texts: int) -> tuple[float, float]:
        """Highest learning rates of body and head for ``n_texts`` training texts."""
        recipe = find_recipe(self.family)
        return self.learning_rate or recipe.rate_for(n_texts), self.head_rate or recipe.head_rate

    @property
    def max_ids(self) -> int:
        """Ids kept of a text, tokens or bytes."""
        return self.max_tokens * find_recipe(self.family).ids_per_token


def as_trained(student: Student, *, min_agreement: float = TrainConfig.min_agreement) -> TrainConfig:
    """What is recorded of how a student was trained; the rest as it is by default."""
    return TrainConfig(
        family=student.family,
        backbone=student.backbone,
        loss=student.loss,
        seed=student.seed,
        max_tokens=student.max_tokens // find_recipe(student.family).ids_per_token,
        min_agreement=min_agreement,
    )


def _check(name: str, value: object, fits: bool, allowed: str) -> None:
    """One line about a value that is out of its range."""
    if not fits:
        raise UserError(f"{name} is {value}; it must be {allowed}")
