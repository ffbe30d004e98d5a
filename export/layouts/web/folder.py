"""Write the folder: a page, its scripts, and scripts that carry graph, runtime, tokenizer and golden texts.

A page that is opened from disk may load scripts from beside it, but it may neither fetch a file nor import one. So everything is a
script, with its bytes in base64. The runtime is compressed, to a quarter. Weights in int8 would only lose a tenth, and take longer
to unpack than that takes to load.
"""

from __future__ import annotations

import base64
import gzip
import json
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from potstill.contract.bundle import MODEL_FILE, SUMS_FILE, TOKENIZER_FILE, Golden, Manifest, read_golden
from potstill.contract.errors import UserError
from potstill.contract.files import digest
from potstill.contract.questions.head import HOLDS, Head
from potstill.export.bundle.card import without_metadata
from potstill.export.layouts.web.runtime import Runtime
from potstill.export.layouts.web.wordpiece import tables
from potstill.serve.http.application.lookups import FOLDER as PLAYGROUND
from potstill.serve.runtime.golden import TOLERANCE_ELSEWHERE

STATIC = Path(__file__).parent / "static"
SCRIPTS = ("tokenizer.js", "classifier.js", "page.js", "node.js")
PARTS = "parts"  # the folder of the scripts that carry data
N_EXAMPLES = 3  # golden texts that the page offers to try
# Nothing may be loaded but what lies beside the page, and what the page itself holds: the runtime.
POLICY = (
    "default-src 'none'; script-src 'self' file: blob: 'wasm-unsafe-eval'; style-src 'self' file:; img-src data:; "
    "connect-src 'none'; base-uri 'none'; form-action 'none'"
)
_TITLE, _SCRIPT = "<title>potstill</title>", '<script src="playground.js" defer></script>'


def write_web(bundle: Path, folder: Path, manifest: Manifest, runtime: Runtime) -> None:
    """Write the page and its scripts into a folder.

    Args:
        bundle: the bundle to package.
        folder: where to write.
        manifest: the bundle's.
        runtime: onnxruntime-web.
    Raises:
        UserError: if the bundle is a cascade.
        FormatError: if its tokenizer is not one that a page can follow.
    """
    if manifest.cascade is not None:
        raise UserError(
            f"{bundle}: is a cascade of two graphs, but the layout web holds one; package one of the two bundles it is of"
        )
    parts = folder / PARTS
    parts.mkdir()
    _write_part(parts / "runtime.js", "runtime", {"module": runtime.module, "wasm": _base64(gzip.compress(runtime.wasm, mtime=0))})
    _write_part(parts / "model.js", "model", _base64((bundle / MODEL_FILE).read_bytes()))
    golden = read_golden(bundle)
    _write_part(parts / "bundle.js", "tokenizer", tables(bundle / TOKENIZER_FILE))
    with (parts / "bundle.js").open("ab") as file:
        file.write(_part("manifest", _settings(bundle, manifest, golden)))
    for name in SCRIPTS:
        (folder / name).write_bytes((STATIC / name).read_bytes())
    for name in ("playground.css", "playground.js"):
        (folder / name).write_bytes((PLAYGROUND / name).read_bytes())
    (folder / "index.html").write_text(_page(manifest), encoding="utf-8", newline="\n")
    (folder / "LICENSE.onnxruntime-web").write_text(runtime.licence, encoding="utf-8", newline="\n")


def _page(manifest: Manifest) -> str:
    """The server's page, with the scripts of this folder and without what only a server has."""
    page = (PLAYGROUND / "playground.html").read_text(encoding="utf-8")
    names = [*(f"{PARTS}/{part}.js" for part in ("runtime", "model", "bundle")), "tokenizer.js", "classifier.js", "page.js"]
    scripts = "\n".join(f'<script src="{name}"></script>' for name in [*names, "playground.js"])
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    # Scripts at the end: the page shows itself first, and megabytes load in half the time that they take as deferred ones.
    for mark, new in ((_TITLE, f"{policy}\n{_TITLE}"), (f"{_SCRIPT}\n", ""), ("</body>", f"{scripts}\n</body>")):
        if mark not in page:
            raise ValueError(f"playground.html has no {mark}")
        page = page.replace(mark, new)
    before, _, rest = page.partition("  <footer>")
    return before.rstrip() + "\n" + rest.partition("</footer>\n")[2]


def _settings(bundle: Path, manifest: Manifest, golden: list[Golden]) -> dict[str, Any]:
    """What the scripts need of the manifest, with the golden texts, and `shown`, which is what a server's page asks for."""
    found: dict[str, Any] = {
        name: msgspec.to_builtins(getattr(manifest, name))
        for name in ("name", "labels", "target", "max_tokens", "temperature", "bias", "thresholds", "conformal", "heads")
    }
    found["golden"] = [{"text": row.text, "target": row.target, "probs": row.probs} for row in golden]
    found["tolerance"] = TOLERANCE_ELSEWHERE
    found["potstill"] = metadata.version("potstill")
    questions = {} if manifest.heads is None else {"questions": [_question(head) for head in manifest.heads]}
    found["shown"] = {
        "bundle": manifest.name,
        "version": digest.of_file(bundle / SUMS_FILE)[:12],
        "labels": manifest.labels,
        "target": manifest.target,
        "thresholds": {} if manifest.heads is not None else _thresholds(manifest, 0.0),
        "variant": manifest.variant,
        "examples": [{"text": row.text, "target": row.target} for row in golden[:N_EXAMPLES]],
        **questions,
    }
    return found


def _question(head: Head) -> dict[str, Any]:
    """One of several questions, as the page shows it."""
    thresholds = _thresholds(head, 0.0 if head.is_softmax else HOLDS)
    return {"name": head.name, "kind": head.kind, "labels": head.labels, "thresholds": thresholds}


def _thresholds(decision: Manifest | Head, default: float) -> dict[str, float | None]:
    """Each label's threshold; None: never answered."""
    return {name: (decision.thresholds or {}).get(name, default) for name in decision.labels}


def _base64(data: bytes) -> str:
    """Bytes as a script can carry them."""
    return base64.b64encode(data).decode("ascii")


def _write_part(path: Path, name: str, content: Any) -> None:
    """Write a script that carries one part."""
    path.write_bytes(_part(name, content))


def _part(name: str, content: Any) -> bytes:
    """A statement that keeps a part where `classifier.js` finds it. JSON is JavaScript, too."""
    return b"(globalThis.potstillParts ??= {})." + name.encode() + b" = " + msgspec.json.encode(content) + b";\n"


def space_card(card: str, manifest: Manifest) -> str:
    """The card of a static Space of the Hugging Face hub, which shows `index.html`.

    Args:
        card: the folder's; its metadata is a model's, and is replaced.
        manifest: the bundle's.
    Source of the fields: huggingface.co/docs/hub/spaces-config-reference.
    """
    lines = [
        f"title: {json.dumps(manifest.name, ensure_ascii=False)}",
        "emoji: 🏷️",
        "colorFrom: gray",
        "colorTo: blue",
        "sdk: static",
        "app_file: index.html",
        "pinned: false",
        "short_description: A text classifier that runs in this page",  # the hub cuts at 60 characters
    ]
    return "\n".join(["---", *lines, "---", "", without_metadata(card)])


def how_to(manifest: Manifest) -> str:
    """Usage for the card: open the page, or call the classifier from a page or from Node."""
    ask = '"some text", "some target"' if manifest.target else '"some text"'
    scripts = [f'<script src="{PARTS}/{part}.js"></script>' for part in ("runtime", "model", "bundle")]
    return "\n".join(
        [
            "Open `index.html` in a browser, from disk or from any web server. It asks nothing of any other place.",
            "",
            "In a page of your own:",
            "",
            "```html",
            *scripts,
            '<script src="tokenizer.js"></script>',
            '<script src="classifier.js"></script>',
            "<script>",
            f"  potstill.open().then((classifier) => classifier.classify({ask})).then(console.log);",
            "</script>",
            "```",
            "",
            "In Node 20 or later:",
            "",
            "```js",
            f'require("./node.js").open().then((classifier) => classifier.classify({ask})).then(console.log);',
            "```",
        ]
    )
