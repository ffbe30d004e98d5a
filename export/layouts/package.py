"""Package a bundle in the layout that another server or hub expects, and sign it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from potstill.contract.bundle import SUMS_FILE, Manifest, read_manifest, verify_files
from potstill.contract.errors import UserError
from potstill.contract.files import atomic, digest
from potstill.contract.security.signature import SIGNATURE_FILE, sign
from potstill.export.bundle import card
from potstill.export.config import LAYOUTS, PAGES, PackageConfig
from potstill.export.layouts import container, huggingface, kubernetes, sbom, triton
from potstill.export.layouts.web import folder as web
from potstill.export.layouts.web import runtime as web_runtime

ONE_CHOICE = ("huggingface", "triton")  # layouts whose clients expect one softmax over all outputs


@dataclass(frozen=True)
class PackageReport:
    """The written package."""

    folder: Path
    layout: str
    n_files: int
    size_bytes: int
    signed: bool

    def as_text(self) -> str:
        """One line."""
        signed = f", signed ({SIGNATURE_FILE})" if self.signed else ""
        return f"{self.folder}: {self.layout}, {self.n_files} files, {self.size_bytes / 1e6:.1f} MB{signed}; see its README.md"


def package(bundle: str | Path, folder: str | Path, config: PackageConfig) -> PackageReport:
    """Write a bundle in a layout: model, card, bill of materials, checksums, and a signature if a key is given.

    Args:
        bundle: a bundle; its checksums are verified first.
        folder: where to write; an existing folder is replaced.
        config: the layout.
    Raises:
        FormatError: if the bundle is malformed or was changed.
        UserError: if the folder is inside the bundle or cannot be written, the layout cannot hold several questions or a cascade,
            the runtime of a page is not there, or the key cannot be used.
    """
    bundle, folder = Path(bundle), Path(folder)
    if folder.resolve() == bundle.resolve() or bundle.resolve() in folder.resolve().parents:
        raise UserError(f"{folder}: is the bundle or inside it; choose a place outside of {bundle}")
    verify_files(bundle)
    manifest = read_manifest(bundle)
    if manifest.heads is not None and config.layout in ONE_CHOICE:
        others = ", ".join(name for name in LAYOUTS if name not in ONE_CHOICE)
        asked = ", ".join(head.name for head in manifest.heads)
        raise UserError(
            f"{bundle}: answers {asked}, but the layout {config.layout} is for one choice between labels; allowed: {others}"
        )
    version = metadata.version("potstill")
    image = config.image or f"{triton.model_name(manifest)}:{digest.of_file(bundle / SUMS_FILE)[:12]}"
    runtime = web_runtime.open_runtime(config.runtime) if config.layout in PAGES else None
    with atomic.folder(folder) as staging:
        if runtime is not None:
            web.write_web(bundle, staging, manifest, runtime)
            usage = web.how_to(manifest)
        else:
            usage = _fill(bundle, staging, manifest, config.layout, image, version)
        own = bundle / card.FILE
        text = card.with_usage(own.read_text(encoding="utf-8") if own.is_file() else f"# {manifest.name}\n\n", usage)
        if config.layout == "space":
            text = web.space_card(text, manifest)
            (staging / ".gitattributes").write_text(f"{web.PARTS}/*.js filter=lfs diff=lfs merge=lfs -text\n", encoding="ascii")
        (staging / card.FILE).write_text(text, encoding="utf-8", newline="\n")
        (staging / sbom.FILE).write_bytes(sbom.sbom(bundle, manifest, version, _libraries(runtime)))
        _write_sums(staging)
        if config.sign:
            sign(staging, Path(config.sign))
    files = [path for path in folder.rglob("*") if path.is_file()]
    return PackageReport(folder, config.layout, len(files), sum(path.stat().st_size for path in files), bool(config.sign))


def _fill(bundle: Path, folder: Path, manifest: Manifest, layout: str, image: str, version: str) -> str:
    """Write the layout's own files; returns the usage for the card."""
    if layout == "huggingface":
        huggingface.write_huggingface(bundle, folder, manifest)
        return huggingface.how_to(manifest)
    if layout == "triton":
        triton.write_triton(bundle, folder, manifest)
        return triton.how_to(manifest)
    if layout == "docker":
        container.write_docker(bundle, folder, manifest, image, version)
        return container.how_to_docker(manifest)
    if layout == "kubernetes":
        kubernetes.write_kubernetes(bundle, folder, manifest, image, version)
        return kubernetes.how_to(manifest, image)
    container.write_kserve(bundle, folder, manifest, image, version)
    return container.how_to_kserve(manifest, image)


def _libraries(runtime: web_runtime.Runtime | None) -> list[sbom.Library]:
    """The libraries that answer: those of the server, or those of a page."""
    return sbom.installed() if runtime is None else [sbom.Library("npm", web_runtime.NAME, runtime.version)]


def _write_sums(folder: Path) -> None:
    """Write `SHA256SUMS` of every file below the folder, by relative path; `sha256sum -c` reads it."""
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    lines = [f"{digest.of_file(folder / path)}  {path}\n" for path in paths]
    (folder / SUMS_FILE).write_text("".join(lines), encoding="ascii", newline="\n")


def sign_bundle(bundle: str | Path, private_key: str | Path) -> None:
    """Write `model.sig` into a bundle; its other files stay as they are.

    Raises:
        FormatError: if the bundle is malformed or was changed.
        UserError: if the key cannot be used or the bundle cannot be written; the bundle then stays as it was.
    """
    bundle, private_key = Path(bundle), Path(private_key)
    verify_files(bundle)
    with atomic.folder(bundle) as staging:
        shutil.copytree(bundle, staging, dirs_exist_ok=True)
        sign(staging, private_key)
