"""What `pip install potstill[EXTRA]` puts on a disk and how long it takes; and that a bundle is served there without torch.

    python benchmarks/promises/install.py [--extra serve] [--turns 3] [--bundle BUNDLE] [--constraint FILE] [--trim]

Builds the wheel from this checkout's last commit, installs it with the extra alone, once to fill pip's cache and then in as many
fresh environments as there are turns. Prints the megabytes (10^6 bytes) by distribution, with and without the byte code that pip
compiles, those of the downloaded wheels, and the seconds of each turn. With a bundle, a server is started there from the installed
command and asked for one answer, and torch must not be importable. --trim also removes what `potstill package --for docker` leaves
out, before the server starts.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from importlib import metadata
from pathlib import Path

from potstill.contract.system.machine import cpu_name
from potstill.export.layouts.container import UNUSED

ROOT = Path(__file__).resolve().parents[2]
TOOLS = frozenset({"pip", "setuptools"})  # of the environment itself
START_S = 30


def build_wheel(folder: Path) -> Path:
    """The wheel of the last commit, built from a clone, since a build leaves folders behind."""
    source = folder / "source"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(source)], check=True)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder), str(source)]
    subprocess.run(command, check=True)
    return next(folder.glob("potstill-*.whl"))


def install(wheel: Path, environment: Path, options: argparse.Namespace, cache: Path) -> float:
    """Install into a fresh environment; returns pip's seconds."""
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    command = [str(environment / "bin" / "pip"), "install", "-q", "--cache-dir", str(cache), f"{wheel}[{options.extra}]"]
    command += ["--constraint", str(options.constraint)] if options.constraint else []
    start = time.perf_counter()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def downloaded_mb(wheel: Path, folder: Path, options: argparse.Namespace, cache: Path) -> float:
    """Megabytes of all wheels that the installation fetches, ours among them."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--cache-dir",
        str(cache),
        "-d",
        str(folder),
        f"{wheel}[{options.extra}]",
    ]
    command += ["--constraint", str(options.constraint)] if options.constraint else []
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return sum(path.stat().st_size for path in folder.iterdir()) / 1e6


def sizes_mb(site: Path) -> dict[str, tuple[float, float]]:
    """Megabytes of each distribution's files that are there, all and without byte code; the environment's tools are left out."""
    found = {}
    for one in metadata.distributions(path=[str(site)]):
        paths = [path for file in one.files or () if (path := Path(str(one.locate_file(file)))).is_file()]
        total = sum(path.stat().st_size for path in paths)
        compiled = sum(path.stat().st_size for path in paths if path.suffix == ".pyc")
        if one.name not in TOOLS:
            found[one.name] = (total / 1e6, (total - compiled) / 1e6)
    return found


def serve_once(environment: Path, bundle: Path) -> str:
    """Start a server there, ask it for one answer and stop it; returns the label. Raises RuntimeError if torch is there."""
    python = str(environment / "bin" / "python")
    if subprocess.run([python, "-c", "import torch"], capture_output=True).returncode == 0:
        raise RuntimeError("torch is installed in the environment of the server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(environment / "bin" / "potstill"), "serve", str(bundle.resolve()), "--port", str(port)]
    with subprocess.Popen(command, cwd=environment, env=outside, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as server:
        try:
            return _asked(f"http://127.0.0.1:{port}/classify")
        finally:
            server.terminate()


def _asked(url: str) -> str:
    """The first label that the server gives, once it listens; raises TimeoutError."""
    body = json.dumps({"text": "Prices will rise tomorrow."}).encode()
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(
                urllib.request.Request(url, body, {"Content-Type": "application/json"}), timeout=5
            ) as reply:
                return str(json.load(reply)["answer"]["label"])
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"the server refuses the text: {error.read().decode()}") from error
        except OSError:
            time.sleep(0.05)
    raise TimeoutError(f"no server answered within {START_S} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extra", default="serve")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--constraint", type=Path)
    parser.add_argument("--trim", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel, cache = build_wheel(folder), folder / "cache"
        install(wheel, folder / "first", options, cache)
        fetched = downloaded_mb(wheel, folder / "downloaded", options, cache)
        seconds = [install(wheel, folder / f"turn{i}", options, cache) for i in range(options.turns)]
        environment = folder / "turn0" if options.turns else folder / "first"
        site = next((environment / "lib").glob("python*/site-packages"))
        removed = [path for pattern in UNUSED if options.trim for path in site.glob(pattern)]
        for path in removed:
            path.unlink()
        sizes = sizes_mb(site)
        print(f"potstill[{options.extra}] on {cpu_name()}, Python {sys.version.split()[0]}, {len(sizes)} distributions\n")
        print("| distribution | MB | MB without byte code |\n| --- | --- | --- |")
        for one, (all_mb, plain_mb) in sorted(sizes.items(), key=lambda item: -item[1][0]):
            print(f"| {one} | {all_mb:.1f} | {plain_mb:.1f} |")
        total, plain = (sum(column) for column in zip(*sizes.values(), strict=True))
        print(f"| all | {total:.1f} | {plain:.1f} |\n")
        turns = ", ".join(f"{one:.1f}" for one in seconds)
        print(f"downloaded: {fetched:.1f} MB; seconds with a warm cache, each turn: {turns}")
        if options.bundle:
            print(f"served there without torch: first answer {serve_once(environment, options.bundle)!r}")


if __name__ == "__main__":
    main()
