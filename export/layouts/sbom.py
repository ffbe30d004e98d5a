"""A CycloneDX bill of materials (version 1.6) of a bundle and the libraries it runs on.

The model is a component with the hashes of its files; the libraries are components with the versions that the bundle was proved
with. It holds no date and no random number, so the same bundle gives the same bytes.
Source: CycloneDX 1.6, ECMA-424; the fields of a machine-learning-model component.
"""

from __future__ import annotations

import uuid
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from potstill.contract.bundle import SUMS_FILE, Manifest
from potstill.contract.files import digest

FILE = "sbom.cdx.json"
RUNTIME = ("httptools", "msgspec", "numpy", "onnxruntime", "tokenizers", "uvicorn", "uvloop")  # imported when serving


def sbom(bundle: Path, manifest: Manifest, version: str) -> bytes:
    """The bill of materials, as JSON.

    Args:
        bundle: the bundle's folder.
        manifest: its `bundle.json`.
        version: of potstill.
    """
    sums = digest.of_file(bundle / SUMS_FILE)
    libraries = [_library(name) for name in RUNTIME]
    model = f"model:{manifest.name}"
    potstill = {"type": "application", "bom-ref": "potstill", "name": "potstill", "version": version}
    content = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, sums)}",
        "version": 1,
        "metadata": {
            "tools": {"components": [{"type": "application", "name": "potstill", "version": version}]},
            "component": _model(bundle, manifest, model, sums),
        },
        "components": [potstill, *[library for library in libraries if library is not None]],
        "dependencies": [
            {"ref": model, "dependsOn": ["potstill"]},
            {"ref": "potstill", "dependsOn": [library["bom-ref"] for library in libraries if library is not None]},
        ],
    }
    return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"


def _model(bundle: Path, manifest: Manifest, ref: str, sums: str) -> dict[str, Any]:
    """The model component: files with hashes, scores, and digests of what it was trained from."""
    origin = manifest.provenance
    metrics = [
        {
            "type": f"{split} {name}",
            "value": f"{score.value:.4f}",
            "confidenceInterval": {"lowerBound": f"{score.low:.4f}", "upperBound": f"{score.high:.4f}"},
        }
        for split, found in manifest.scores.items()
        for name, score in found.items()
    ]
    files = [
        {"type": "file", "name": path.name, "hashes": [{"alg": "SHA-256", "content": digest.of_file(path)}]}
        for path in sorted(bundle.iterdir())
    ]
    facts = {
        "variant": manifest.variant,
        "backbone": origin.backbone,
        "backbone_digest": origin.backbone_digest,
        "teacher_digest": origin.teacher_digest,
        "task_digest": origin.task_digest,
        "soft_labels_digest": origin.soft_labels_digest,
    }
    return {
        "type": "machine-learning-model",
        "bom-ref": ref,
        "name": manifest.name,
        "version": sums[:12],
        "modelCard": {
            "modelParameters": {
                "task": "text-classification",
                "outputs": [{"format": f"probabilities of {', '.join(manifest.labels)}"}],
            },
            "quantitativeAnalysis": {"performanceMetrics": metrics},
        },
        "properties": [{"name": f"potstill:{name}", "value": value} for name, value in facts.items()],
        "components": files,
    }


def _library(name: str) -> dict[str, Any] | None:
    """The component of a library, or None if it is not installed."""
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
    purl = f"pkg:pypi/{name}@{version}"
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
