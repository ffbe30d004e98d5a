"""Are the label probabilities of a model behind llama.cpp's own server those of the same file in this process?

    benchmarks/teacher/build_llama_server                     # once; prints the folder of the program
    python benchmarks/teacher/behind_llama_server.py LLAMA_SERVER [--n 40]

The embedded teacher, unpacked to 16-bit floats so that no rounding of activations hides a difference, labels texts of the example
in mode `direct`. As a document (`--api completions`) the same labelling in this process stands beside it. In a conversation
(`--api chat`) the server writes the turns itself and the answer has no cue, so `transformers` renders them here, and they are read
one by one. Then `--api auto` and each other way is tried, and what the server says of it is printed.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
from chat_probabilities import Alone, compare, half_floats, rendered
from numpy.typing import NDArray

from potstill.contract.errors import UserError
from potstill.contract.project import STORE_FILE
from potstill.contract.system.machine import cpu_name, usable_cores
from potstill.contract.task import Task, load_task
from potstill.contract.texts import Text, read_texts
from potstill.labeler.config import LabelConfig
from potstill.labeler.prompts import plain, served
from potstill.labeler.store.database import LabelStore
from potstill.labeler.teacher import APIS
from potstill.labeler.teachers.config import TeacherConfig
from potstill.labeler.teachers.opening import packed_file
from potstill.labeler.teachers.remote import open_remote
from potstill.models import gguf
from potstill.workflows.example_files import DEMO_EXAMPLE, example_folder
from potstill.workflows.labelling import label

START_S = 60.0  # that the server may take to load the model


@contextmanager
def serving(program: Path, model: Path, log: Path) -> Iterator[str]:
    """The address of a server with the model; it ends with the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        program,
        "-m",
        model,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "-c",
        "8192",
        "-np",
        "4",
        "--kv-unified",
        "--jinja",
    ]
    with log.open("wb") as out:
        process = subprocess.Popen(list(map(str, command)), stdout=out, stderr=out, env={**os.environ, "LLAMA_OFFLINE": "1"})
    try:
        address, ends = f"http://127.0.0.1:{port}", time.monotonic() + START_S
        while time.monotonic() < ends and process.poll() is None:
            try:
                if httpx.get(f"{address}/health", trust_env=False).status_code == httpx.codes.OK:
                    break
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        else:
            raise SystemExit(f"{program} did not start:\n{log.read_text(errors='replace')[-2000:]}")
        yield f"{address}/v1"
    finally:
        process.terminate()
        process.wait(20)


def probabilities(task: Task, texts: Path, out: Path, config: LabelConfig, teacher: TeacherConfig) -> NDArray[np.float64]:
    """Probability of every label word in every text, float [N, W], in the order of the ids."""
    label(task, texts, out, config, teacher=teacher)
    with LabelStore.read(out / STORE_FILE) as store:
        paths = sorted(store.paths(store.find_run(None)), key=lambda path: path.text_id)
    return np.exp(np.array([path.word_logprobs for path in paths]))


def in_turns(task: Task, texts: Sequence[Text], model: Path, config: LabelConfig) -> NDArray[np.float64]:
    """The same for the turns that a server is sent, float [N, W]: a word may begin with a space or not."""
    alone, header = Alone(model), gguf.read_header(model)
    words = [word for own in task.labels for word in own.spellings]
    selection = plain.example_selections(task, 1, config.n_examples_per_label, config.seed, examples=config.examples)[0]
    before = served.conversation(task, selection, "direct", guideline=True)
    found = []
    for text in sorted(texts, key=lambda text: text.id):
        turns = [{"role": turn.role, "content": turn.content} for turn in before]
        turns.append({"role": "user", "content": plain.block(task, text.text, text.target, "direct")})
        bos, eos = alone.spelling(alone.llama.token_bos()), alone.spelling(alone.llama.token_eos())
        prompt = rendered(header.chat_template, turns, bos, eos)
        found.append(sum(np.exp(alone.logprobs(prompt, words, space)) for space in ("", " ")))
    return np.array(found)


def ways(url: str) -> Iterator[str]:
    """What each way to ask the server gives, one line each."""
    for api in APIS:
        said: list[str] = []
        try:
            teacher = open_remote(url, api=api, tell=said.append)
        except UserError as error:
            yield f"--api {api}: {error}"
            continue
        yield f"--api {api}: {teacher.identity.build}" + "".join(f" ({line})" for line in said)
        teacher.close()


def main() -> None:
    """Print the differences of both ways, then what every way gives."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path, help="llama-server")
    parser.add_argument("--n", type=int, default=40, help="texts")
    options = parser.parse_args()
    folder = example_folder(DEMO_EXAMPLE)
    task = load_task(folder / "task.toml")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        lines = (folder / "texts.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)[: options.n]
        texts = work / "texts.jsonl"
        texts.write_text("".join(lines), encoding="utf-8")
        model = half_floats(packed_file("smollm2-135m-instruct", "as-is").path, work)
        with serving(options.program, model, work / "server.log") as url:
            config = LabelConfig(mode="direct", n_paths=1, template="plain")
            here = probabilities(task, texts, work / "document", config, TeacherConfig(str(model), pack="as-is"))
            there = probabilities(task, texts, work / "completions", config, TeacherConfig(url, api="completions"))
            print("--api completions against this process")
            compare(there, here, task)
            there = probabilities(task, texts, work / "chat", config, TeacherConfig(url, api="chat"))
            read = read_texts(texts, labels=task.label_names, target=task.input.target).texts
            print("\n--api chat against the turns one by one in this process")
            compare(there, in_turns(task, read, model, config), task)
            print("\n" + "\n".join(ways(url)))
    print(f"\n{cpu_name()}, {usable_cores()} threads; {len(lines)} texts")


if __name__ == "__main__":
    main()
