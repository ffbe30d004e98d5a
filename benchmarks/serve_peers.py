"""Compare servers of the same student: highest requests per second, and the latency of single requests.

    python benchmarks/serve_peers.py out/bundle --checkpoint out/student --out out/peers [--turns 3] [--seconds 10] [--only NAMES]

Every peer answers single texts with the same student, the same texts and the same two cores, which the client shares. One runs at a
time, in turns. Throughput is that of a closed loop of several clients, latency that of one connection. A peer's packages are
installed into a virtual environment under --out, which is kept; FastAPI with a pipeline runs in this Python. Only peers that can
serve the student's family take part; their programs are in benchmarks/peers/. Writes peers.md and peers.svg, and prints peers.md.

The peers serve the same graph, or, with --peers-bundle, that of another bundle of the student, such as one made by
`potstill export --variant float`: what one would have without potstill.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from potstill.contract.bundle import read_manifest
from potstill.contract.errors import UserError
from potstill.contract.system import telemetry
from potstill.contract.system.machine import usable_cores
from potstill.contract.texts import Text
from potstill.serve.bench.load.client import Address
from potstill.serve.bench.load.closed_loop import closed_loop
from potstill.serve.bench.load.result import LoadResult
from potstill.serve.bench.texts import shuffled, texts_as_given
from potstill.serve.runtime.classifier import Classifier

sys.path.insert(0, str(Path(__file__).parent))
from peers.known import PEERS, Peer  # the folder beside this file
from peers.report import PeerFigures, bar_chart, markdown

N_TEXTS, N_CHECKED = 512, 50
N_CLIENTS = 8
START_S, STOP_S, INSTALL_S = 120, 30, 900
N_CORES = 2


def main() -> None:
    """Install the peers, measure them in turns, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--checkpoint", type=Path, help="checkpoint of the same student, for torch and model2vec")
    parser.add_argument("--peers-bundle", type=Path, help="another bundle of the student, for the peers to serve")
    parser.add_argument("--texts", type=Path, help="texts to classify; default: those of the bundle")
    parser.add_argument("--out", type=Path, required=True, help="folder for environments, logs, table and plot")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10, help="duration of each measurement")
    parser.add_argument("--only", help=f"some of {', '.join(peer.name for peer in PEERS)}; separated by commas")
    options = parser.parse_args()
    if options.turns < 1 or options.seconds <= 0:
        parser.error("--turns must be at least 1, and --seconds above 0")
    manifest = read_manifest(options.bundle)
    if manifest.target:
        sys.exit(f"{options.bundle}: needs targets, which most peers cannot take; give a bundle of a task without targets")
    options.out.mkdir(parents=True, exist_ok=True)
    peers = chosen(options.only, options.bundle, options.checkpoint)
    with Classifier.open(options.bundle) as classifier:
        short = [
            text.text for text in texts_as_given(options.bundle, options.texts, N_TEXTS, target=False) if fits(classifier, text)
        ]
        if not short:
            sys.exit(
                f"every text has more than {manifest.max_tokens} tokens, and Infinity cannot truncate; give others with --texts"
            )
        texts = [short[i % len(short)] for i in range(N_TEXTS)]
        labels = [answer.label for answer in classifier.classify(texts[:N_CHECKED])]
    (options.out / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:N_CORES])  # servers inherit it
    found = {peer.name: PeerFigures() for peer in peers}
    pythons = {peer.name: python_of(peer, options.out, found[peer.name]) for peer in peers}
    for turn in range(options.turns):
        for peer in peers[turn % len(peers) :] + peers[: turn % len(peers)]:
            python, figures = pythons[peer.name], found[peer.name]
            if python is None or figures.note:
                continue
            print(f"turn {turn + 1}: {peer.name}", file=sys.stderr, flush=True)
            run = measure_loop if peer.is_loop else measure_server
            try:
                run(peer, python, options, texts, labels, figures)
            except (OSError, RuntimeError, subprocess.SubprocessError) as error:
                figures.note = f"stopped: {error}"
    page = markdown(found, caption(options, len(texts)))
    (options.out / "peers.md").write_text(page, encoding="utf-8")
    (options.out / "peers.svg").write_text(bar_chart({name: one.rps for name, one in found.items() if one.rps}), encoding="utf-8")
    print(page)


def fits(classifier: Classifier, text: Text) -> bool:
    """True if the text fits the student's maximum length; Infinity cannot truncate."""
    return classifier.tokenizer.ids(text.text, None)["input_ids"].shape[1] < classifier.manifest.max_tokens


def chosen(only: str | None, bundle: Path, checkpoint: Path | None) -> list[Peer]:
    """The peers that are asked for and can serve this student; exits if a name is unknown."""
    names = {peer.name for peer in PEERS} if only is None else set(only.split(","))
    if unknown := names - {peer.name for peer in PEERS}:
        sys.exit(f"--only: there is no {', '.join(sorted(unknown))}; there are {', '.join(peer.name for peer in PEERS)}")
    config = bundle / "config.json"
    if not config.is_file():
        sys.exit(f"{config}: is missing, and the choice of peers depends on it; give a bundle that potstill export has written")
    kind = json.loads(config.read_text(encoding="utf-8"))["model_type"]
    family = "static" if kind == "potstill-static" else "encoder"
    fit = [peer for peer in PEERS if peer.name in names and family in peer.families]
    for peer in fit:
        if peer.needs_checkpoint and checkpoint is None:
            print(f"{peer.name} is left out: it serves a checkpoint; give --checkpoint", file=sys.stderr)
    return [peer for peer in fit if checkpoint is not None or not peer.needs_checkpoint]


def python_of(peer: Peer, out: Path, figures: PeerFigures) -> str | None:
    """Install the peer's packages and return its Python; None, with a note, if they do not install."""
    if not peer.needs:
        return sys.executable
    home = (out / "venvs" / peer.name).resolve()
    python, mark = home / "bin" / "python", home / "installed"
    wanted = "\n".join(peer.needs)
    if mark.is_file() and mark.read_text() == wanted:
        return str(python)
    print(f"installing {peer.name}", file=sys.stderr, flush=True)
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True, timeout=START_S)
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", *peer.needs]
    try:
        done = subprocess.run(install, capture_output=True, text=True, timeout=INSTALL_S)
    except subprocess.TimeoutExpired:
        figures.note = f"not installed within {INSTALL_S} s"
        return None
    if done.returncode:
        figures.note = f"does not install: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}"
        return None
    mark.write_text(wanted)
    return str(python)


def measure_loop(peer: Peer, python: str, options: argparse.Namespace, _: list[str], __: list[str], figures: PeerFigures) -> None:
    """Measure the loop without a server; raises RuntimeError if it fails."""
    file = options.out / "texts.json"
    arguments = peer.arguments(model=options.bundle, texts=file, seconds=options.seconds)
    done = subprocess.run([python, *arguments], capture_output=True, text=True, timeout=START_S + 3 * options.seconds)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["it said nothing"])[-1])
    told = json.loads(done.stdout)
    figures.rps.append(told["rps"])
    figures.p50_ms.append(told["p50_ms"])


def measure_server(
    peer: Peer, python: str, options: argparse.Namespace, texts: list[str], labels: list[str], figures: PeerFigures
) -> None:
    """Start a server, measure it and stop it; raises RuntimeError if it does not answer."""
    address = Address("127.0.0.1", free_port())
    model = model_of(peer, options)
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd()) if not peer.needs else "", "OMP_NUM_THREADS": str(N_CORES)}
    environment |= {**telemetry.SWITCHES, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    home = options.out / "home"  # Infinity caches optimized graphs there by model name, and would serve an old one
    shutil.rmtree(home, ignore_errors=True)
    environment["HF_HOME"] = str(home.resolve())
    with (options.out / f"{peer.name}.log").open("wb") as log:
        command = [python, *peer.arguments(model=model.resolve(), port=address.port)]
        folder = shutil.copytree(model, options.out / f"{peer.name}-model", dirs_exist_ok=True) if peer.in_model else None
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True, cwd=folder)
    try:
        wait_for(process, peer, address, texts[0], options.out)
        figures.same_labels = same_labels(peer, address, texts, labels)
        requests = shuffled([request(peer, address, text) for text in texts])
        asyncio.run(closed_loop(address, requests, N_CLIENTS, seconds=options.seconds / 5))  # warm-up
        alone = checked(asyncio.run(closed_loop(address, requests, 1, seconds=options.seconds)))
        figures.p50_ms.append(alone.percentiles_ms(50)[0])
        figures.rps.append(checked(asyncio.run(closed_loop(address, requests, N_CLIENTS, seconds=options.seconds))).answered_rps)
    finally:
        stop(process)


def model_of(peer: Peer, options: argparse.Namespace) -> Path:
    """The folder that a peer serves."""
    if peer.needs_checkpoint:
        return Path(options.checkpoint)
    return Path(options.bundle if peer.name == "potstill" else options.peers_bundle or options.bundle)


def request(peer: Peer, address: Address, text: str) -> bytes:
    """A complete HTTP request, with the content type that FastAPI requires."""
    body = peer.request(text)
    head = f"POST {peer.path} HTTP/1.1\r\nHost: {address.host}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def checked(outcome: LoadResult) -> LoadResult:
    """Raise RuntimeError unless every request was answered with 200."""
    if set(outcome.statuses) != {200}:
        raise RuntimeError(f"statuses {dict(outcome.statuses)}")
    return outcome


def ask(peer: Peer, address: Address, text: str) -> str:
    """Ask for the label of a text; raises OSError while the server does not answer."""
    connection = http.client.HTTPConnection(address.host, address.port, timeout=START_S)
    try:
        connection.request("POST", peer.path, peer.request(text), {"Content-Type": "application/json"})
        reply = connection.getresponse()
        body = reply.read()
        if reply.status != 200:
            raise OSError(f"status {reply.status}: {body[:200]!r}")
        return peer.label(json.loads(body))
    finally:
        connection.close()


def same_labels(peer: Peer, address: Address, texts: list[str], labels: list[str]) -> float:
    """The share of texts that the peer gives these labels, 0 to 1."""
    return sum(ask(peer, address, text) == label for text, label in zip(texts, labels)) / len(labels)


def wait_for(process: subprocess.Popen[bytes], peer: Peer, address: Address, text: str, out: Path) -> None:
    """Wait until the server answers; raises RuntimeError if it ends or does not answer in time."""
    end_s, last = time.monotonic() + START_S, "nothing"
    while time.monotonic() < end_s:
        if process.poll() is not None:
            raise RuntimeError(f"it ended with {process.returncode}; see {out / f'{peer.name}.log'}")
        try:
            ask(peer, address, text)
            return
        except (OSError, http.client.HTTPException) as error:
            last = str(error)
        time.sleep(0.2)
    raise RuntimeError(f"no answer in {START_S} s, but {last}; see {out / f'{peer.name}.log'}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """Stop a process and its children."""
    for sig in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sig)
            process.wait(STOP_S)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def free_port() -> int:
    """Find two free ports in a row, as MLServer needs them; returns the first."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            try:
                second.bind(("127.0.0.1", first.getsockname()[1] + 1))
            except OSError:
                continue
            return int(first.getsockname()[1])


def caption(options: argparse.Namespace, n_texts: int) -> str:
    """One sentence on how the figures were measured."""
    cores = f"{min(N_CORES, usable_cores())} cores that server and client share"
    clients = f"{N_CLIENTS} clients for the requests per second"
    return f"{n_texts} texts, {options.turns} turns of {options.seconds:g} s, {cores}, {clients}; medians over the turns (range)."


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
