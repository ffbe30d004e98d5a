"""A bundle for texts among which the labels are more or less frequent than where it was made."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from potstill.contract.bundle import Manifest, read_golden, write_golden, write_manifest, write_sums
from potstill.contract.errors import FormatError, UserError
from potstill.contract.files import atomic
from potstill.contract.scores.prior_shift import LEVEL, MIN_TEXTS, Shift, estimate
from potstill.contract.security.signature import SIGNATURE_FILE
from potstill.contract.system.cores import usable_cores
from potstill.contract.texts import Text, read_texts
from potstill.serve.runtime.classifier import Classifier, softmax
from potstill.serve.runtime.session import this_machine

CARD_FILE, CARD_TITLE = "README.md", "## Adapted to other label shares"


@dataclass(frozen=True)
class AdaptConfig:
    """How a bundle is adapted.

    Raises:
        UserError: if the level is out of its range.
    """

    level: float = LEVEL  # of significance, above 0 and at most 1: shares that differ less clearly are left alone; 1 always adapts
    workers: int | None = None  # texts answered at once; None: the usable cores

    def __post_init__(self) -> None:
        """Refuse what is no level; raises UserError."""
        if not 0 < self.level <= 1:
            raise UserError(f"level is {self.level:g}; it must be above 0 and at most 1")


@dataclass(frozen=True)
class AdaptReport:
    """What was found, and what became of it."""

    bundle: Path
    manifest: Manifest
    shift: Shift
    level: float
    skipped: str  # a line on rows passed over; empty if none was

    def as_text(self) -> str:
        """A table of the shares, and what the new bundle does about them."""
        shift, labels = self.shift, self.manifest.labels
        width = max(5, *(len(name) for name in labels))
        lines = [f"{'label':<{width}}  share here             where it was made"]
        rows = zip(labels, shift.shares, shift.low, shift.high, shift.source, strict=True)
        lines += [f"{name:<{width}}  {here:.3f} [{low:.3f}, {high:.3f}]   {there:.3f}" for name, here, low, high, there in rows]
        test = f"likelihood-ratio test on {shift.n} texts: p = {shift.p_value:.2g}"
        if self.manifest.bias is None:
            lines.append(f"{test}, not below {self.level:g}; the labels are as frequent here, so {self.bundle} answers as before")
            return "\n".join(lines)
        lines.append(f"{test}; {self.bundle} answers with these shares")
        if self.manifest.thresholds:
            lines.append(
                "its thresholds are those of before; what precision they have here is for gold labels of such texts to say"
            )
        return "\n".join([*lines, "label sets promise nothing after a shift, so it has none"])


_ADAPT = AdaptConfig()


def adapt_bundle(bundle: str | Path, texts: str | Path, out: str | Path, config: AdaptConfig = _ADAPT) -> AdaptReport:
    """Estimate the label shares of unlabelled texts, and write the bundle again with probabilities for those shares.

    A bundle that was adapted before is adapted anew, from the shares where it was made. Thresholds stay, label sets go.

    Args:
        bundle: the folder; it may be `out` too.
        texts: at least `MIN_TEXTS` of the kind that will be answered; gold labels in it are not looked at.
        out: the folder to write; one that is there is replaced when the new one is whole.
        config: how.
    Raises:
        FormatError: if the bundle or the texts are malformed.
        UserError: if the bundle does not know its own label shares, there are too few texts, or the disk refuses.
    """
    bundle, texts, out = Path(bundle), Path(texts), Path(out)
    if out.exists() and out.resolve() != bundle.resolve() and not (out / "bundle.json").is_file() and any(out.iterdir()):
        raise UserError(f"{out}: is a folder with other files; name a bundle, or a place where nothing is yet")
    with Classifier.open(bundle) as classifier:
        if classifier.manifest.cascade is not None:
            raise UserError(f"{bundle}: is a cascade; adapt the two bundles that it was made of, and join them again")
        source = _source(bundle, classifier.manifest)
        found = read_texts(texts, target=classifier.manifest.target)
        if len(found.texts) < MIN_TEXTS:
            raise FormatError(texts, "", f"holds {len(found.texts)} usable texts; label shares need at least {MIN_TEXTS}")
        logits = _logits(classifier, found.texts, config.workers or usable_cores())
        shift = estimate(softmax(logits, classifier.manifest.temperature), source)
        manifest = _shifted(classifier.manifest, shift, config.level)
        if manifest.machine is not None:
            manifest = msgspec.structs.replace(manifest, machine=this_machine())  # which gives the new golden probabilities
        with atomic.folder(out) as folder:
            for path in bundle.iterdir():
                if path.name != SIGNATURE_FILE:  # it signs what the bundle was before
                    shutil.copyfile(path, folder / path.name)
            write_manifest(folder, manifest)
            _write_card(folder / CARD_FILE, manifest, shift)
            _write_golden(folder, Classifier(manifest, classifier.tokenize, classifier.session))
            write_sums(folder)
            Classifier.open(folder).close()
    return AdaptReport(out, manifest, shift, config.level, found.skipped_line())


def _source(bundle: Path, manifest: Manifest) -> NDArray[np.float64]:
    """The label shares [C] that the bundle was made for."""
    if manifest.label_shares is None:
        raise UserError(f"{bundle}: does not know its own label shares (label_shares); export it again from its checkpoint")
    return np.array([manifest.label_shares[name] for name in manifest.labels])


def _logits(classifier: Classifier, texts: list[Text], workers: int) -> NDArray[np.float32]:
    """float32 [N, C], each text alone as when it is answered."""
    with ThreadPoolExecutor(workers, thread_name_prefix="answer") as pool:
        pairs = ((text.text, [text.target or ""] if classifier.manifest.target else None) for text in texts)
        return np.concatenate(list(pool.map(lambda pair: classifier.logits([pair[0]], pair[1]), pairs)))


def _shifted(manifest: Manifest, shift: Shift, level: float) -> Manifest:
    """The manifest with the shift's bias, or without one where chance explains the shift."""
    if shift.p_value >= level and level < 1:
        return msgspec.structs.replace(manifest, bias=None, conformal=manifest.conformal if manifest.bias is None else None)
    return msgspec.structs.replace(manifest, bias=shift.bias.tolist(), conformal=None)


def _write_card(path: Path, manifest: Manifest, shift: Shift) -> None:
    """The model card, if there is one, without what it said of an earlier shift, and with what there is to say of this one."""
    if not path.is_file():
        return
    card = path.read_text(encoding="utf-8").partition(CARD_TITLE)[0]
    if manifest.bias is not None:
        rows = zip(manifest.labels, shift.shares, shift.source, strict=True)
        lines = [f"- `{name}`: {here:.3f} of {shift.n} texts, {there:.3f} where it was made" for name, here, there in rows]
        note = "The scores and thresholds above were measured before; label sets it has none any more."
        card += "\n".join(
            [CARD_TITLE, "", "It answers for texts with these label shares, estimated without labels:", "", *lines, "", note, ""]
        )
    path.write_text(card, encoding="utf-8", newline="\n")


def _write_golden(folder: Path, classifier: Classifier) -> None:
    """The golden texts with the probabilities that the new manifest gives."""
    rows = []
    for row in read_golden(folder):
        probs = classifier.probs([row.text], None if row.target is None else [row.target])[0].tolist()
        rows.append(msgspec.structs.replace(row, probs=probs))
    write_golden(folder, rows)
