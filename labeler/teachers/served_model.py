"""A model behind a server: which one it is, and what all ways of asking it share."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from potstill.contract.errors import UserError
from potstill.contract.files import digest
from potstill.labeler.teacher import Identity, Message, ServerApi
from potstill.labeler.teachers.openai_client import GO_ON, ServerClient
from potstill.labeler.teachers.replies import Completion, RefusedError, UnreadableError, parsed
from potstill.labeler.teachers.terms import Terms

R = TypeVar("R")
MOST_CHOICES = 16  # per HTTP request
Prompt = str | tuple[Message, ...]  # a document to continue, or the turns of a conversation
_ABOUT = ("owned_by", "root", "parent", "quantization", "meta")  # fields of a model's entry that identify it
_META = ("vocab_type", "n_vocab", "n_ctx_train", "n_embd", "n_params", "size", "ftype")  # llama-server's, without its settings


class ListedModel(msgspec.Struct):
    """One entry of the server's list of models."""

    id: str
    owned_by: Any = None
    root: Any = None
    parent: Any = None
    quantization: Any = None
    meta: Any = None
    architecture: Any = None

    @property
    def only_decides(self) -> bool:
        """Whether the server says that the model answers questions and writes nothing, as llama-server does."""
        found = self.architecture.get("output_modalities") if isinstance(self.architecture, dict) else None
        return isinstance(found, list) and "decisions" in found and "text" not in found


class _Models(msgspec.Struct):
    data: list[ListedModel] | None


@dataclass(frozen=True)
class Served:
    """A model of a server's list, before anything is asked of it."""

    client: ServerClient
    entry: ListedModel
    software: str  # the `Server` header; may be empty

    def identity(self, api: ServerApi, fingerprint: str, method: str) -> Identity:
        """The teacher's identity. A server's weights cannot be hashed, so the digest covers the server's description of them.

        Fingerprints that begin with `fp_` are left out of the build: OpenAI's changes from request to request, Ollama's never.

        Args:
            method: how labels are read, for the build.
        """
        about = {key: getattr(self.entry, key) for key in _ABOUT}
        if isinstance(about["meta"], dict):
            about["meta"] = {key: value for key, value in about["meta"].items() if key in _META}
        if isinstance(about["root"], str):
            about["root"] = name_of(about["root"])
        name = name_of(self.entry.id)
        described = digest.of_value({"id": name, **about})
        stated_build = "" if fingerprint.startswith("fp_") else fingerprint
        build = " ".join(dict.fromkeys(part for part in (self.software, stated_build) if part)) or "unknown server"
        return Identity(name, described, described, f"{build}; {method}", api=api)


@dataclass
class ServedModel(ABC):
    """Everything that a request to the model needs. Its only mutable state is the number of choices per request."""

    served: Served
    terms: Terms
    identity: Identity
    most_choices: int = field(default=MOST_CHOICES, kw_only=True)  # lowered when the server rejects more, or gives fewer

    spaced = True  # whether a space stands before the answer, as it does where a document is continued after a cue

    @property
    def client(self) -> ServerClient:
        """The connections."""
        return self.served.client

    @property
    def list_length(self) -> int:
        """Number of likely tokens that the server lists; 0: none."""
        return self.terms.list_length

    @abstractmethod
    async def complete(
        self,
        prompt: Prompt,
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
            UserError: if the server wants a key, keeps failing, or its reply is something else.
        """

    async def list_after(
        self, prompt: Prompt, beginning: str, *, alone: bool = False, temperature: float = 0.0, seed: int | None = None
    ) -> Completion | None:
        """One token after the prompt and a beginning of the answer, with the tokens that were likely there.

        Args:
            alone: whether one label word alone begins so, so that the beginning says nearly as much as the word.
        Returns:
            None where the server cannot go on after the beginning. Raises as :meth:`complete`.
        """
        if not isinstance(prompt, str):
            raise TypeError("a document is text")
        return await self.complete(prompt + beginning, 1, temperature=temperature, seed=seed, list_length=self.terms.list_length)


def listed_tokens(terms: Terms) -> str:
    """How labels are read from lists, or without them, as words for the build."""
    return f"{terms.list_length} likely tokens" if terms.list_length else "written words only"


async def served_model(client: ServerClient, wanted: str | None) -> Served:
    """The wanted model of the server's list, or its only one. An address without `/v1` is tried with it.

    A server that loads models on demand may list none, and one that answers questions only may have no list at all: the wanted
    model is then taken as it is named.

    Raises:
        UserError: if nothing answers, or the model is missing or ambiguous.
    """
    try:
        answer = await client.get("/models")
    except RefusedError as error:
        if not client.url.endswith("/v1") and await client.moved_below("/v1", "/models"):
            return await served_model(client, wanted)
        if wanted is not None and error.status in (404, 405, 501):
            return Served(client, ListedModel(wanted), "")
        hint = "is the address right? It usually ends in /v1"
        named = "; or name the model with --model, if the server has no list" if wanted is None and error.status == 404 else ""
        raise UserError(f"{client.url}: answers /models with {error}; {hint}{named}") from None
    try:
        entries = parsed(answer.body, _Models).data
    except ValueError as error:
        raise UserError(f"{client.url}: /models is not a list of models ({error}); is it an OpenAI-compatible server?") from None
    return Served(client, _choose(client.url, entries or [], wanted), answer.software)


def _choose(url: str, entries: list[ListedModel], wanted: str | None) -> ListedModel:
    """The wanted entry, or the only one."""
    names = ", ".join(entry.id for entry in entries) or "none"
    if wanted is not None:
        if not entries:  # models are loaded on demand
            return ListedModel(wanted)
        found = [entry for entry in entries if wanted in (entry.id, name_of(entry.id), entry.id.removesuffix(":latest"))]
        if not found:
            raise UserError(f"{url}: has no model {wanted!r}; it has: {names}")
        return found[0]
    if len(entries) != 1:
        next_step = "choose one with --model" if entries else "load one there first, or name one with --model"
        raise UserError(f"{url}: has {len(entries)} models ({names}); {next_step}")
    return entries[0]


def refused(client: ServerClient, error: RefusedError) -> UserError:
    """The error for a rejected request that is not about the text."""
    return UserError(f"{client.url}: refuses the request ({error}); {GO_ON}")


def name_of(model_id: str) -> str:
    """The id, or only the file name where llama.cpp gives a path: a file's folder says nothing about the model."""
    return re.split(r"[/\\]", model_id)[-1] if re.match(r"/|[A-Za-z]:[/\\]|\.{1,2}/", model_id) else model_id


def read_reply(client: ServerClient, path: str, body: bytes, read: Callable[[bytes], R], what: str) -> R:
    """A decoded reply.

    Args:
        path: that was asked.
        read: raises ValueError if the body is something else.
        what: was asked for, in words: "a completion".
    Raises:
        UnreadableError: if it is something else; shows how it begins.
    """
    try:
        return read(body)
    except ValueError as error:
        start = " ".join(body[:80].decode("utf-8", "replace").split())
        raise UnreadableError(f"{client.url}: {path} answered {start!r}, which is not {what} ({error}); {GO_ON}") from None
