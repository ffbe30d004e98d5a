"""A bundle in a page opened from disk, and in Node, next to Python: the same labels, how far probabilities move, and the times.

    python benchmarks/promises/web_page.py BUNDLE TEXTS --runtime onnxruntime-web-1.30.0.tgz

It needs Chromium and Playwright, and Node. The first answer is timed from the opening of the page to the shown answer, in a browser
that is already running, as the median over openings.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
from playwright.sync_api import Browser, sync_playwright

from potstill.contract.scores.bounds import lower_bound, upper_bound
from potstill.contract.texts import read_texts
from potstill.export.config import PackageConfig
from potstill.export.layouts.package import package
from potstill.serve.runtime.classifier import Classifier

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
N_OPENINGS = 7
IN_PAGE = """async (texts) => {
    const classifier = await potstill.open(), found = [];
    for (const text of texts) found.push(await classifier.traced(text));
    return { found, change: classifier.change };
}"""
IN_NODE = """
const texts = JSON.parse(require("fs").readFileSync(process.argv[1], "utf8")), potstill = require("./node.js");
(async () => {
    const start = performance.now(), classifier = await potstill.open(), opened_ms = performance.now() - start, found = [];
    for (const text of texts) found.push(await classifier.traced(text));
    console.log(JSON.stringify({ found, change: classifier.change, opened_ms }));
})();
"""


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--runtime", help="onnxruntime-web; default: what POTSTILL_WEB_RUNTIME names")
    parser.add_argument("--n", type=int, default=2000, help="texts")
    given = parser.parse_args()
    texts = [text.text for text in read_texts(given.texts).texts][: given.n]
    with Classifier.open(given.bundle) as classifier:
        expected = classifier.probs(texts)
    with tempfile.TemporaryDirectory() as folder:
        report = package(given.bundle, Path(folder) / "web", PackageConfig("web", runtime=given.runtime))
        print(report.as_text())
        with (
            sync_playwright() as playwright,
            playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS) as browser,
        ):
            print(f"Chromium {browser.version}")
            _openings(browser, report.folder)
            page = browser.new_page()
            page.goto(f"file://{report.folder}/index.html")
            _compare("page", page.evaluate(IN_PAGE, texts), expected)
        (Path(folder) / "texts.json").write_text(json.dumps(texts))
        command = ["node", "-e", IN_NODE, f"{folder}/texts.json"]
        said = json.loads(subprocess.run(command, cwd=report.folder, capture_output=True, check=True).stdout)
        print(f"Node: opened in {said['opened_ms'] / 1e3:.2f} s, golden texts included")
        _compare("Node", said, expected)


def _openings(browser: Browser, folder: Path) -> None:
    """Time the first answer of a page that was just opened."""
    seconds = []
    for _ in range(N_OPENINGS):
        page = browser.new_page()
        start = time.perf_counter()
        page.goto(f"file://{folder}/index.html")
        page.get_by_label("Text", exact=True).fill("a text to begin with")
        page.keyboard.press("Control+Enter")
        page.locator("#answer").wait_for()
        seconds.append(time.perf_counter() - start)
        page.close()
    print(f"first answer from disk: {np.median(seconds):.2f} s, {min(seconds):.2f} to {max(seconds):.2f} in {N_OPENINGS} openings")


def _compare(where: str, said: dict, expected: np.ndarray) -> None:
    """Print how answers from elsewhere compare with Python's."""
    probs = np.array([row["probs"] for row in said["found"]])
    same = probs.argmax(axis=1) == expected.argmax(axis=1)
    low, high = (bound(int(same.sum()), len(same), 0.975) for bound in (lower_bound, upper_bound))
    change = np.abs(probs - expected)
    times = [row["tokenize_ms"] + row["infer_ms"] for row in said["found"]]
    print(f"{where}: same label {same.mean():.4f} [{low:.4f}, {high:.4f}] of {len(same)} texts")
    print(f"  golden texts move by {said['change']:.4f}")
    print(f"  a probability moves by {change.max():.4f} at most, by {np.quantile(change.max(axis=1), 0.99):.4f} in 99 texts of 100")
    print(f"  p50 {np.median(times):.1f} ms, p99 {np.quantile(times, 0.99):.1f} ms")


if __name__ == "__main__":
    main()
