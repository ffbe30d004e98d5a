"""The peers: the packages that each needs, how it is started, and how requests and replies look."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FASTAPI = str(HERE / "fastapi_servers.py")
ONNX = ("onnxruntime==1.31.1", "tokenizers==0.22.2", "numpy==2.4.6")


@dataclass(frozen=True)
class Peer:
    """One way to serve a student.

    `command` is passed to Python, with {model}, {port}, {texts} and {seconds} filled in.
    """

    name: str
    command: tuple[str, ...]
    families: tuple[str, ...] = ("encoder", "static")  # of students that it can serve
    needs: tuple[str, ...] = ()  # packages of its own environment; empty: it runs in this Python's
    needs_checkpoint: bool = False  # {model} is the checkpoint rather than the bundle
    in_model: bool = False  # started in the model's folder
    path: str = "/classify"
    body: Callable[[str], Any] = lambda text: {"text": text}
    label: Callable[[Any], str] = lambda reply: str(reply[0]["label"])
    is_loop: bool = False  # not a server: it measures itself and prints JSON

    def arguments(self, **values: object) -> list[str]:
        """The command's arguments, filled in."""
        return [part.format(**values) for part in self.command]

    def request(self, text: str) -> bytes:
        """The body of a request, as JSON."""
        return json.dumps(self.body(text)).encode()


def most_probable(probs: dict[str, float]) -> str:
    """The label with the largest probability."""
    return max(probs, key=lambda name: probs[name])


def tensors(text: str) -> dict[str, Any]:
    """A text in the Open Inference Protocol."""
    return {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": [text]}]}


def label_of_tensors(reply: dict[str, Any]) -> str:
    """The most probable label in a reply of that protocol."""
    data = {output["name"]: output["data"] for output in reply["outputs"]}
    return most_probable(dict(zip(data["labels"], data["probs"], strict=True)))


PEERS = [
    Peer("loop", (str(HERE / "plain_session.py"), "{model}", "{texts}", "{seconds}"), is_loop=True),
    Peer(
        "potstill",
        ("-m", "potstill.commands.main", "serve", "{model}", "--port", "{port}"),
        label=lambda reply: str(reply["answer"]["label"]),
    ),
    Peer("fastapi-optimum", (FASTAPI, "optimum", "{model}", "{port}"), families=("encoder",)),
    Peer("fastapi-torch", (FASTAPI, "torch", "{model}", "{port}"), families=("encoder",), needs_checkpoint=True),
    Peer(
        "infinity",
        tuple("-m infinity_emb.cli v2 --model-id . --served-model-name student --engine optimum --device cpu".split())
        + tuple("--no-model-warmup --log-level error --host 127.0.0.1 --port {port}".split()),
        families=("encoder",),
        needs=("infinity-emb[optimum,server]==0.0.77", "transformers==4.48.3", "optimum==1.27.0", "torch==2.7.1", ONNX[0]),
        in_model=True,  # given a path, it looks for the model's file at that path below the path
        body=lambda text: {"model": "student", "input": [text]},
        label=lambda reply: str(max(reply["data"][0], key=lambda row: row["score"])["label"]),
    ),
    Peer(
        "litserve",
        (str(HERE / "litserve_onnx.py"), "{model}", "{port}"),
        needs=("litserve==0.2.19", *ONNX),
        path="/predict",
        label=lambda reply: most_probable(reply["probs"]),
    ),
    Peer(
        "mlserver",
        (str(HERE / "mlserver_onnx.py"), "{model}", "{port}"),
        needs=("mlserver==1.7.1", "uvloop==0.21.0", *ONNX),
        path="/v2/models/student/infer",
        body=tensors,
        label=label_of_tensors,
    ),
    Peer(
        "model2vec",
        (FASTAPI, "model2vec", "{model}", "{port}"),
        families=("static",),
        needs=("model2vec==0.10.0", "fastapi==0.165.0", "uvicorn==0.54.0", "httptools==0.9.0", "uvloop==0.23.0"),
        needs_checkpoint=True,
    ),
]
