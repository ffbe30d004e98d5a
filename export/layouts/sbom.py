"""A CycloneDX bill of materials (version 1.6) of a bundle and the libraries it runs on.

The model is a component with the hashes of its files; the libraries are components with the versions that the bundle was proved
with. It holds no date and no random number, so the same bundle gives the same bytes.
Source: CycloneDX 1.6, ECMA-424; the fields of a machine-learning-model component.
"""

from __future__ import annotations

import uuid
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from potstill.contract.bundle import SUMS_FILE, Manifest
from potstill.contract.files import digest

FILE = "sbom.cdx.json"
RUNTIME = ("httptools", "msgspec", "numpy", "onnxruntime", "tokenizers", "uvicorn", "uvloop")  # imported when serving


class Library(NamedTuple):
    """A package that runs when the bundle answers."""

    registry: str  # as a package URL names it: pypi, npm
    name: str
    version: str

    def component(self) -> dict[str, Any]:
        """Its component in the bill."""
        purl = f"pkg:{self.registry}/{self.name}@{self.version}"
        return {"type": "library", "bom-ref": purl, "name": self.name, "version": self.version, "purl": purl}


def installed() -> list[Library]:
    """The libraries of the server that are installed here."""
    found = []
    for name in RUNTIME:
        try:
            found.append(Library("pypi", name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    return found


def sbom(bundle: Path, manifest: Manifest, version: str, libraries: list[Library]) -> bytes:
    """The bill of materials, as JSON.

    Args:
        bundle: the bundle's folder.
        manifest: its `bundle.json`.
        version: of potstill.
        libraries: those that run when the bundle answers.
    """
    sums = digest.of_file(bundle / SUMS_FILE)
    components = [library.component() for library in libraries]
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
        "components": [potstill, *components],
        "dependencies": [
            {"ref": model, "dependsOn": ["potstill"]},
            {"ref": "potstill", "dependsOn": [library["bom-ref"] for library in components]},
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
