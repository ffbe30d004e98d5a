"""The bundle's files, proved by the runtime that will answer with them before the folder is moved into place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import onnx

from potstill.contract.bundle import (
    MODEL_FILE,
    QUALITY_FILE,
    TOKENIZER_FILE,
    Golden,
    Manifest,
    write_golden,
    write_manifest,
    write_sums,
)
from potstill.contract.files import atomic
from potstill.contract.task import Task
from potstill.export.bundle import card
from potstill.export.gate.quality import Quality
from potstill.export.tokenizer.files import CONFIG_FILE, TOKENIZER_CONFIG_FILE, config_json, tokenizer_config_json, tokenizer_json
from potstill.serve.runtime.classifier import Classifier
from potstill.serve.runtime.session import open_session
from potstill.serve.runtime.tokenizer import Tokenize

AWKWARD = (  # what tokenizers and kernels trip over; no text of anybody's pool, because a bundle travels
    "up",
    "🚀🚀🚀 to the moon?? 💎🙌",
    "今日の株価は上がるでしょうか。中国股市明天会涨吗？",
    "هل سيرتفع السعر غدا؟ אני לא יודע",
    "naïve café — “quotes”, tabs\tand\nlines, 1.5 % of $TSLA & co. <b>bold</b> [MASK]",
    "It went up, then down, and then nobody could say any more which way it would go. " * 40,
)


@dataclass(frozen=True)
class BundleContent:
    """What a bundle is made of."""

    checkpoint: Path
    task: Task
    model: onnx.ModelProto
    manifest: Manifest
    quality: Quality


def write_bundle(bundle: Path, parts: BundleContent) -> None:
    """Fill a folder, open it as a server would, and move it into place. Equal parts give equal bytes.

    Raises:
        UserError: if it cannot be written, or the new bundle does not prove itself; what was at ``bundle`` stays.
    """
    with atomic.folder(bundle) as folder:
        checkpoint, manifest = parts.checkpoint, parts.manifest
        (folder / MODEL_FILE).write_bytes(parts.model.SerializeToString(deterministic=True))
        (folder / TOKENIZER_FILE).write_bytes(tokenizer_json(checkpoint, manifest.max_tokens))
        (folder / CONFIG_FILE).write_bytes(config_json(checkpoint, manifest.labels))
        (folder / TOKENIZER_CONFIG_FILE).write_bytes(tokenizer_config_json(checkpoint, manifest.max_tokens))
        (folder / QUALITY_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(parts.quality), indent=2) + b"\n")
        (folder / card.FILE).write_text(card.text(parts.task, manifest, parts.quality), encoding="utf-8", newline="\n")
        write_manifest(folder, manifest)
        write_golden(folder, _golden(folder, parts))
        write_sums(folder)
        Classifier.open(folder).close()


def _golden(folder: Path, parts: BundleContent) -> list[Golden]:
    """The worked examples and the awkward texts with the answers that this machine gives."""
    session = open_session(folder / MODEL_FILE)
    tokenize = Tokenize(folder / TOKENIZER_FILE, parts.manifest.max_tokens, [node.name for node in session.get_inputs()])
    target = parts.task.examples[0].target
    pairs = [(example.text, example.target) for example in parts.task.examples] + [(text, target) for text in AWKWARD]
    with Classifier(parts.manifest, tokenize, session) as classifier:
        targets = [about or "" for _, about in pairs] if parts.manifest.target else None
        probs = classifier.probs([text for text, _ in pairs], targets).tolist()
    return [Golden(text=text, target=about, probs=row) for (text, about), row in zip(pairs, probs, strict=True)]
