"""Everything that can be wrong with a bundle, looked for at once: its files, their form, and its golden texts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from potstill.contract.bundle import FAST_MODEL_FILE, MODEL_FILE, SUMS_FILE, file_problems, read_golden, read_manifest
from potstill.contract.errors import FormatError, UserError
from potstill.contract.security.onnx_form import check_graph
from potstill.contract.security.signature import SIGNATURE_FILE, check_signature
from potstill.serve.runtime.classifier import Classifier


@dataclass(frozen=True)
class Verified:
    """What was looked at, and what is wrong with it."""

    bundle: Path
    problems: list[str] = field(default_factory=list)  # a line each, which begins with the file; empty: the bundle is sound
    n_files: int = 0
    n_golden: int = 0
    change: float = 0.0  # largest, of a golden probability
    signature: str = "not signed"  # or whether that was checked

    def as_text(self) -> str:
        """One line on a sound bundle."""
        return (
            f"{self.bundle}: sound; {self.n_files} files as they were written, {self.signature}, {self.n_golden} golden texts, "
            f"the largest change of a probability is {self.change:.2g}"
        )


def verify(bundle: str | Path, key: str | Path | None = None) -> Verified:
    """Check every file of a bundle against its sum, then the form of manifest, golden texts and graphs, then the golden answers.

    What does not pass one of the three keeps the next from being looked at: no parser sees a byte that was changed, no graph of a
    wrong form is run.

    Args:
        bundle: the folder.
        key: the public key of who must have signed it; None: a signature is only told of.
    Raises:
        UserError: if the key cannot be read.
    """
    bundle, key = Path(bundle), None if key is None else Path(key)
    problems = [str(problem) for problem in file_problems(bundle)] or _wrong_signature(bundle, key) or _wrong_form(bundle)
    if problems:
        return Verified(bundle, problems)
    try:
        golden = read_golden(bundle)
        with Classifier.open(bundle, check=False) as classifier:
            change = classifier.replay(bundle, golden)
    except UserError as error:
        return Verified(bundle, [str(error)])
    n_files = sum(path.name not in (SUMS_FILE, SIGNATURE_FILE) for path in bundle.iterdir())
    unchecked = "signed (give --key to check by whom)" if (bundle / SIGNATURE_FILE).exists() else "not signed"
    return Verified(bundle, [], n_files, len(golden), change, unchecked if key is None else f"signed by the holder of {key}")


def _wrong_signature(bundle: Path, key: Path | None) -> list[str]:
    """What is wrong with the signature, where there must be one."""
    if key is None:
        return []
    try:
        check_signature(bundle, key)
    except FormatError as error:
        return [str(error)]
    return []


def _wrong_form(bundle: Path) -> list[str]:
    """What is wrong with files whose bytes are as they were written."""
    graphs = [path for name in (MODEL_FILE, FAST_MODEL_FILE) if (path := bundle / name).exists()]
    checks: list[Callable[[], object]] = [lambda: read_manifest(bundle), lambda: read_golden(bundle)]
    checks += [lambda path=path: check_graph(path) for path in graphs]  # type: ignore[misc]
    problems = []
    for check in checks:
        try:
            check()
        except FormatError as error:
            problems.append(str(error))
    return problems
