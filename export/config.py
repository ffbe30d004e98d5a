"""What an export may cost, and in which form it is wanted. Importing this needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from potstill.contract.errors import UserError

FLOAT, FUSED = "float", "float_fused"
STATIC, FULL_RANGE, DYNAMIC = "static_int8", "static_int8_full_range", "dynamic_int8"
TRAINED = "static_int8_trained"  # of a checkpoint that was trained against int8; made where no other int8 form passes
VARIANTS = (STATIC, FULL_RANGE, DYNAMIC, FUSED, FLOAT)
AUTO = "auto"
ANY_CPU, VNNI = "any", "vnni"
CPUS = (ANY_CPU, VNNI)


@dataclass(frozen=True)
class ExportConfig:
    """What an int8 form may cost, and which form is wanted.

    Raises:
        UserError: naming the first value that is out of its range.
    """

    max_drop: float = 0.005  # macro-F1 below float, as a fraction
    min_agreement: float = 0.99  # share of texts that keep float's label
    max_change: float = 0.3  # of any probability of any text
    variant: str = AUTO  # or one of VARIANTS, which must then pass
    cpu: str = ANY_CPU  # where the bundle will answer; "vnni": weights of full range compete too
    pool: str | None = None  # a file of texts without labels, like those to come: for activation ranges, and for the gate
    prune_vocab: str | None = None  # a file of such texts: pieces that none of them has are left out of the vocabulary
    qat: bool = False  # whether the checkpoint is trained against int8 where no int8 form passes, see `qat.py`
    threads: int = 2  # cores while exporting

    def __post_init__(self) -> None:
        """Refuse what no export can be held to; raises UserError."""
        for name in ("max_drop", "min_agreement", "max_change"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} is {getattr(self, name):g}; it must be from 0 to 1")
        if self.variant not in (AUTO, *VARIANTS):
            raise UserError(f"variant is {self.variant!r}; allowed: {AUTO}, {', '.join(VARIANTS)}")
        if self.cpu not in CPUS:
            raise UserError(f"cpu is {self.cpu!r}; allowed: {', '.join(CPUS)}")
        if self.threads < 1:
            raise UserError(f"threads is {self.threads}; it must be at least 1")

    @property
    def wanted(self) -> tuple[str, ...]:
        """The forms that compete, beside float itself."""
        if self.variant != AUTO:
            return (self.variant,)
        return (STATIC, *([FULL_RANGE] if self.cpu == VNNI else []), DYNAMIC, FUSED, FLOAT)
