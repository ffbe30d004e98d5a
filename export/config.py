"""Settings of exporting, packaging and pushing, and the names of forms and layouts. Importing this file loads no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from potstill.contract.errors import UserError

# A form is one version of the model's graph; its name is what `bundle.json` and --variant call the variant.
Variant = Literal["static_int8", "static_int8_full_range", "dynamic_int8", "float_fused", "float"]
FLOAT, FUSED = "float", "float_fused"
STATIC, FULL_RANGE, DYNAMIC = "static_int8", "static_int8_full_range", "dynamic_int8"
TRAINED = "static_int8_trained"  # made by --qat from a checkpoint trained against int8; cannot be asked for by name
VARIANTS: tuple[Variant, ...] = get_args(Variant)
AUTO: Final = "auto"  # the fastest form that passes

Cpu = Literal["any", "vnni"]
ANY_CPU: Final = "any"
VNNI: Final = "vnni"
CPUS: tuple[Cpu, ...] = get_args(Cpu)


@dataclass(frozen=True)
class ExportConfig:
    """The limits that a form must keep to, and which forms are tried.

    Raises:
        UserError: naming the first value that is out of its range.
    """

    max_drop: float = 0.005  # largest loss of macro-F1 against float, 0 to 1
    min_agreement: float = 0.99  # smallest share of texts that keep float's label, 0 to 1
    max_change: float = 0.3  # largest change of any probability of any text, 0 to 1
    variant: Variant | Literal["auto"] = AUTO  # a form that is asked for by name must pass
    cpu: Cpu = ANY_CPU  # the processors the bundle is meant for; "vnni" lets full-range weights compete
    pool: str | None = None  # file of unlabelled texts like those to come: for the calibration set, and for the gate
    prune_vocab: str | None = None  # file of such texts: pieces that none of them uses leave the vocabulary
    qat: bool = False  # where no int8 form passes, train the checkpoint against int8 (quantization/qat.py)
    unfamiliar_rate: float = 0.05  # share of texts like the pool's that may be called unfamiliar, above 0 and below 1
    threads: int = 2  # CPU threads while exporting

    def __post_init__(self) -> None:
        """Check every value; raises UserError."""
        for name in ("max_drop", "min_agreement", "max_change"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} is {getattr(self, name):g}; it must be from 0 to 1")
        if not 0 < self.unfamiliar_rate < 1:
            raise UserError(f"unfamiliar_rate is {self.unfamiliar_rate:g}; it must be above 0 and below 1")
        if self.variant not in (AUTO, *VARIANTS):
            raise UserError(f"variant is {self.variant!r}; allowed: {AUTO}, {', '.join(VARIANTS)}")
        if self.cpu not in CPUS:
            raise UserError(f"cpu is {self.cpu!r}; allowed: {', '.join(CPUS)}")
        if self.threads < 1:
            raise UserError(f"threads is {self.threads}; it must be at least 1")

    @property
    def wanted(self) -> tuple[str, ...]:
        """The forms to try beside float, in the order of the report.

        "auto" leaves out full-range weights unless the bundle is for processors with VNNI, where they cannot overflow.
        """
        if self.variant != AUTO:
            return (self.variant,)
        return (STATIC, *([FULL_RANGE] if self.cpu == VNNI else []), DYNAMIC, FUSED, FLOAT)


# Packages: a bundle in the layout of another server or hub.

LAYOUTS = ("huggingface", "triton", "kserve", "kubernetes", "docker", "web", "space")
PAGES = ("web", "space")  # layouts that answer in a browser
_IMAGE = re.compile(r"[a-z0-9]+([._/:-]+[A-Za-z0-9_]+)*")


@dataclass(frozen=True)
class PackageConfig:
    """Settings of a package.

    Raises:
        UserError: if a value is not allowed.
    """

    layout: str  # one of `LAYOUTS`
    image: str | None = None  # name of the container image; None: the task's name and the bundle's digest
    sign: str | None = None  # file of a private key
    runtime: str | None = None  # of a page: onnxruntime-web as npm gives it; None: what POTSTILL_WEB_RUNTIME names

    def __post_init__(self) -> None:
        """Check the values; raises UserError."""
        if self.layout not in LAYOUTS:
            raise UserError(f"layout is {self.layout!r}; allowed: {', '.join(LAYOUTS)}")
        if self.runtime is not None and self.layout not in PAGES:
            raise UserError(
                f"a runtime is given, but the layout {self.layout} has none; it is for the layouts {' and '.join(PAGES)}"
            )
        if self.image is not None and not _IMAGE.fullmatch(self.image):
            raise UserError(f"image is {self.image!r}; give an image name such as team/stance:1")


# Pushes to the Hugging Face hub.


@dataclass(frozen=True)
class CardMetadata:
    """What a bundle does not know of itself."""

    license: str | None = None  # as the hub writes it, such as mit or apache-2.0
    languages: tuple[str, ...] = ()  # codes of ISO 639, such as en
    datasets: tuple[str, ...] = ()  # on the hub, that the texts come from


NO_METADATA = CardMetadata()
MAIN = "main"  # the branch that every repository of the hub has


@dataclass(frozen=True)
class PushConfig:
    """How a bundle is pushed."""

    private: bool = False  # of a repository that is made now
    revision: str = MAIN  # the branch, which is made if it is not there
    token: str | None = field(default=None, repr=False)  # that may write; None: HF_TOKEN, or what `hf auth login` has stored
    message: str = "Push the bundle with potstill"  # of the commit
    card: CardMetadata = NO_METADATA
    sign: str | None = None  # file of a private key
