"""The card of a bundle in a hub's repository: metadata for the hub, results with intervals, and how to load it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from potstill.contract.bundle import Manifest
from potstill.contract.promises.certificate import Certificate
from potstill.contract.scores.bounds import lower_bound, upper_bound
from potstill.contract.scores.record import Score
from potstill.export.bundle.card import METRICS, with_usage, without_metadata
from potstill.export.config import CardMetadata

TASK = "text-classification"
HUB_METRICS = {"accuracy": "accuracy", "macro_f1": "f1", "micro_f1": "f1", "brier": "brier_score", "mae": "mae"}  # the hub's names


def hub_card(card: str, manifest: Manifest, name: str, known: CardMetadata, hub: Any) -> str:
    """The card for a repository.

    Args:
        card: the bundle's; may be empty.
        manifest: the bundle's.
        name: of the repository, USER/NAME.
        known: what else its metadata says.
        hub: the module of the hub's client.
    """
    body = without_metadata(card) or f"# {manifest.name}\n\n"
    results = [hub.EvalResult(task_type=TASK, **row) for row in evaluation_results(manifest)]
    data = hub.ModelCardData(
        model_name=manifest.name if results else None,
        library_name="potstill",
        pipeline_tag=TASK,
        tags=[TASK, "onnx", *(["int8"] if "int8" in manifest.variant else [])],
        license=known.license,
        language=list(known.languages) or None,
        datasets=list(known.datasets) or None,
        metrics=sorted({row["metric_type"] for row in evaluation_results(manifest)}) or None,
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml()}\n---\n\n" + with_usage(body, usage(manifest, name))


def usage(manifest: Manifest, name: str) -> str:
    """How to load the bundle from its repository, in Python and as a server."""
    call = '["some text"], ["some target"]' if manifest.target else '["some text"]'
    folder = name.partition("/")[2]
    return "\n".join(
        [
            "```sh",
            "pip install 'potstill[serve,hub]'",
            "```",
            "",
            "```python",
            "from potstill import Classifier",
            "",
            f'with Classifier.from_pretrained("{name}") as classifier:',
            f"    print(classifier.classify({call}))",
            "```",
            "",
            "Every file is checked against its sum, and the golden texts are replayed, before the first answer. As a server:",
            "",
            "```sh",
            f"potstill pull {name} {folder}",
            f"potstill serve {folder}",
            "```",
        ]
    )


def evaluation_results(manifest: Manifest) -> Iterator[dict[str, Any]]:
    """What the bundle was measured on, as arguments of the client's `EvalResult`."""
    found = [("", manifest.scores), *((f"{head.name}: ", head.scores) for head in manifest.heads or [])]
    for question, by_split in found:
        for split, scores in by_split.items():
            for metric, score in scores.items():
                yield _result(f"{split} texts, by the teacher's labels", split, question, metric, score)
    promises = {"": manifest.certificate, **{f"{name}: ": one for name, one in (manifest.certificates or {}).items()}}
    for question, certificate in promises.items():
        if certificate is not None and certificate.n_answered:
            yield _certified(question, certificate)


def _result(data: str, split: str, question: str, metric: str, score: Score, note: str = "") -> dict[str, Any]:
    """One measured score; the hub shows its name, so that says the interval and the number of texts."""
    words = f"{question}{METRICS.get(metric, metric)}{note}"
    return {
        "dataset_type": "texts",  # the hub wants a name, and these are not on it
        "dataset_name": data,
        "dataset_split": split,
        "metric_type": HUB_METRICS.get(metric, metric),
        "metric_name": f"{words}, interval {score.low:.3f} to {score.high:.3f}, {score.n} texts",
        "metric_value": round(score.value, 4),
        "metric_args": {"n": score.n, "low": round(score.low, 4), "high": round(score.high, 4)},
    }


def _certified(question: str, found: Certificate) -> dict[str, Any]:
    """How many of the answers given were right on the texts of a certificate."""
    n, right, confidence = found.n_answered, found.n_right, found.confidence
    score = Score(value=right / n, low=lower_bound(right, n, confidence), high=upper_bound(right, n, confidence), n=n)
    by = "people's labels" if found.source == "gold" else "the teacher's labels"
    note = f" of the answers given ({n} of {found.n} texts), bounds of {confidence:g} confidence each"
    return _result(f"texts of the certificate, by {by}", "test", question, "accuracy", score, note)
