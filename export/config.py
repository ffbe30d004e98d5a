"""What an export may cost, and in which form it is wanted. Importing this needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

VARIANTS = ("static_int8", "dynamic_int8", "float")  # in the order in which they are tried
AUTO = "auto"


@dataclass(frozen=True)
class ExportConfig:
    """What an int8 form may cost, and which form is wanted."""

    max_drop: float = 0.005  # macro-F1 below float, as a fraction
    min_agreement: float = 0.98  # share of texts that keep float's label
    variant: str = AUTO  # or one of VARIANTS, which must then pass
    threads: int = 2  # cores while exporting
