"""Verify a bundle and list every problem: its files, their form, its signature and its golden texts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from potstill.contract.bundle import FAST_MODEL_FILE, MODEL_FILE, SUMS_FILE, file_problems, read_golden, read_manifest
from potstill.contract.errors import FormatError, UserError, count_of
from potstill.contract.security.onnx_form import check_graph
from potstill.contract.security.signature import SIGNATURE_FILE, check_signature
from potstill.serve.runtime.classifier import Classifier


@dataclass(frozen=True)
class VerifyReport:
    """The problems of a bundle, or the figures of a sound one."""

    bundle: Path
    problems: list[str] = field(default_factory=list)  # one line each, starting with the file; empty: the bundle is sound
    n_files: int = 0
    n_golden: int = 0
    change: float = 0.0  # largest change of a golden probability
    signature: str = "not signed"  # or by whom, or that it was not checked

    def as_text(self) -> str:
        """One line about a sound bundle."""
        return (
            f"{self.bundle}: sound; {self.n_files} files unchanged, {self.signature}, {count_of(self.n_golden, 'golden text')}, "
            f"largest change of a probability {self.change:.2g}"
        )


def verify(bundle: str | Path, key: str | Path | None = None, *, trust: bool = False) -> VerifyReport:
    """Check every file of a bundle against its SHA-256, then its signature, then the form of its files, then the golden texts.

    A failed check ends the verification: no parser reads a changed byte, and no malformed graph is run.

    Args:
        bundle: the folder.
        key: public key of the required signer; None: report whether there is a signature, and do not check it.
        trust: accept operators and tokenizer parts that no export writes, and graphs that ask for a lot of memory.
    Raises:
        UserError: if the key cannot be read.
    """
    bundle, key = Path(bundle), None if key is None else Path(key)
    problems = [str(problem) for problem in file_problems(bundle)] or _wrong_signature(bundle, key) or _wrong_form(bundle)
    if problems:
        return VerifyReport(bundle, problems)
    try:
        golden = read_golden(bundle)
        with Classifier.open(bundle, check=False, trust=trust) as classifier:
            change = classifier.replay(bundle, golden)
    except UserError as error:
        return VerifyReport(bundle, [str(error)])
    n_files = sum(path.name not in (SUMS_FILE, SIGNATURE_FILE) for path in bundle.iterdir())
    unchecked = "signed (give --key to check by whom)" if (bundle / SIGNATURE_FILE).exists() else "not signed"
    signature = unchecked if key is None else f"signed by the holder of {key}"
    return VerifyReport(bundle, [], n_files, len(golden), change, signature)


def _wrong_signature(bundle: Path, key: Path | None) -> list[str]:
    """Problems with the signature, if a signer is required."""
    if key is None:
        return []
    try:
        check_signature(bundle, key)
    except FormatError as error:
        return [str(error)]
    return []


def _wrong_form(bundle: Path) -> list[str]:
    """Problems with the form of manifest, golden texts and graphs, whose bytes are unchanged."""
    graphs = [path for name in (MODEL_FILE, FAST_MODEL_FILE) if (path := bundle / name).exists()]
    checks: list[Callable[[], object]] = [partial(read_manifest, bundle), partial(read_golden, bundle)]
    checks += [partial(check_graph, path) for path in graphs]
    problems = []
    for check in checks:
        try:
            check()
        except FormatError as error:
            problems.append(str(error))
    return problems
