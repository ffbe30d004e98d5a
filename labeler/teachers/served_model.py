"""A model behind an OpenAI-compatible server: find it, probe what the server offers, identify it, and complete prompts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from potstill.contract.errors import UserError
from potstill.contract.files import decode, digest
from potstill.labeler.teacher import Identity
from potstill.labeler.teachers import replies
from potstill.labeler.teachers.openai_client import GO_ON, ServerClient, ServerReply
from potstill.labeler.teachers.replies import Completion, RefusedError

# Numbers of likely tokens to request, tried in this order: llama.cpp lists any number, vLLM and Ollama 20, OpenAI 5.
LIST_LENGTHS = (100, 20, 5, 0)
MOST_CHOICES = 16  # per HTTP request
# The local teacher's sampling: temperature and the 40 likeliest tokens, nothing else. `top_p` is in the standard; these are the
# servers' own fields, which OpenAI rejects. Without them llama.cpp would add min_p, and llama_cpp.server a repeat penalty.
SAMPLING: Mapping[str, Any] = {"top_k": 40, "min_p": 0.0, "repeat_penalty": 1.0, "repetition_penalty": 1.0}
_PROBE = "The capital of France is"  # no model ends its answer here, which would give a reply without a list
_ABOUT = ("owned_by", "root", "parent", "quantization", "meta")  # fields of a model's entry that identify it
_META = ("vocab_type", "n_vocab", "n_ctx_train", "n_embd", "n_params", "size", "ftype")  # llama-server's, without its settings


@dataclass
class ServedModel:
    """Everything that a request to the model needs. Its only mutable state is the number of choices per request."""

    client: ServerClient
    id: str
    identity: Identity
    list_length: int  # number of likely tokens that the server lists; 0: none
    sampling: Mapping[str, Any]  # accepted fields beyond the standard
    most_choices: int = MOST_CHOICES  # lowered when the server rejects a higher number, or gives fewer

    async def complete(
        self,
        prompt: str,
        max_tokens: int,
        *,
        temperature: float = 0.0,
        n: int = 1,
        seed: int | None = None,
        stop: Sequence[str] = (),
        list_length: int = 0,
    ) -> Completion:
        """Complete a prompt.

        Args:
            temperature: of the sampling, at least 0.
            n: number of choices.
            stop: strings that end a choice.
            list_length: number of likely tokens to list at each position.
        Raises:
            RefusedError: if the server rejects the request.
            UserError: if the server wants a key, keeps failing, or its reply is not a completion.
        """
        standard = {"model": self.id, "prompt": _clean(prompt), "max_tokens": max_tokens, "temperature": temperature, "top_p": 1.0}
        asked = {"n": n if n > 1 else None, "seed": seed, "stop": list(stop) or None, "logprobs": list_length or None}
        body = {**standard, **{key: value for key, value in asked.items() if value is not None}, **self.sampling}
        return _decoded(self.client, await self.client.post("/completions", body))


class _Entry(msgspec.Struct):
    """One entry of the server's list of models."""

    id: str
    owned_by: Any = None
    root: Any = None
    parent: Any = None
    quantization: Any = None
    meta: Any = None


class _Models(msgspec.Struct):
    data: list[_Entry]


async def find(client: ServerClient, wanted: str | None) -> ServedModel:
    """Find the server's model, and probe what the server offers.

    Args:
        wanted: the model's id; None if the server has only one.
    Raises:
        UserError: if nothing answers, or the model is missing or ambiguous.
    """
    try:
        answer = await client.get("/models")
        entry = _choose(client.url, msgspec.json.decode(answer.body, type=_Models).data, wanted)
    except RefusedError as error:
        raise UserError(f"{client.url}: answers /models with {error}; is the address right? It usually ends in /v1") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UserError(f"{client.url}: /models is not a list of models ({error}); is it an OpenAI-compatible server?") from None
    blank = ServedModel(client, entry.id, Identity(name_of(entry.id), "", "", ""), 0, {})
    return await _probe(blank, entry, answer.software)


async def _probe(blank: ServedModel, entry: _Entry, software: str) -> ServedModel:
    """The model with the longest list that the server gives, and with our sampling fields if it accepts them."""
    sampling, lengths = SAMPLING, list(LIST_LENGTHS)
    while True:
        model = ServedModel(blank.client, blank.id, blank.identity, lengths[0], sampling)
        try:
            found = await model.complete(_PROBE, 1, list_length=lengths[0])
            break
        except RefusedError as error:
            if "logprobs" in error.words and len(lengths) > 1:
                lengths.pop(0)
            elif sampling:
                sampling = {}
            else:
                raise refused(model.client, error) from None
    model.list_length = lengths[0] if found.choices[0].listed else 0
    model.identity = _identity(entry, software, found.fingerprint, model.list_length)
    return model


def refused(client: ServerClient, error: RefusedError) -> UserError:
    """The error for a rejected request that is not about the text."""
    return UserError(f"{client.url}: refuses the request ({error}); {GO_ON}")


def name_of(model_id: str) -> str:
    """The id, or only the file name where llama.cpp gives a path: a file's folder says nothing about the model."""
    return re.split(r"[/\\]", model_id)[-1] if re.match(r"/|[A-Za-z]:[/\\]|\.{1,2}/", model_id) else model_id


def _choose(url: str, entries: list[_Entry], wanted: str | None) -> _Entry:
    """The wanted entry, or the only one."""
    names = ", ".join(entry.id for entry in entries) or "none"
    if wanted is not None:
        found = [entry for entry in entries if wanted in (entry.id, name_of(entry.id))]
        if not found:
            raise UserError(f"{url}: has no model {wanted!r}; it has: {names}")
        return found[0]
    if len(entries) != 1:
        next_step = "choose one with --model" if entries else "load one there first"
        raise UserError(f"{url}: has {len(entries)} models ({names}); {next_step}")
    return entries[0]


def _identity(entry: _Entry, software: str, fingerprint: str, list_length: int) -> Identity:
    """The teacher's identity. A server's weights cannot be hashed, so the digest covers the server's description of them.

    Fingerprints that begin with `fp_` are left out of the build: OpenAI's changes from request to request, Ollama's never.
    """
    about = {key: getattr(entry, key) for key in _ABOUT}
    if isinstance(about["meta"], dict):
        about["meta"] = {key: value for key, value in about["meta"].items() if key in _META}
    if isinstance(about["root"], str):
        about["root"] = name_of(about["root"])
    name = name_of(entry.id)
    described = digest.of_value({"id": name, **about})
    stated_build = "" if fingerprint.startswith("fp_") else fingerprint
    build = " ".join(dict.fromkeys(part for part in (software, stated_build) if part)) or "unknown server"
    method = f"{list_length} likely tokens" if list_length else "written words only"
    return Identity(name, described, described, f"{build}; {method}")


def _decoded(client: ServerClient, answer: ServerReply) -> Completion:
    """Decode a completion; raises UserError if the reply is something else."""
    try:
        return replies.decode(answer.body)
    except ValueError as error:
        start = " ".join(answer.body[:80].decode("utf-8", "replace").split())
        raise UserError(f"{client.url}: /completions answered {start!r}, which is not a completion ({error}); {GO_ON}") from None


def _clean(prompt: str) -> str:
    """The prompt without lone surrogates, which JSON cannot hold."""
    return decode.encodable(prompt)
