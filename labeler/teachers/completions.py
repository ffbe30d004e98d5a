"""Ways to have a server continue a document: OpenAI's `POST /completions`, and Ollama's own `POST /api/generate`.

The server gets the plain text that the local teacher reads, so the label is read right after the answer cue. Ollama puts a prompt
into the model's chat template at `/completions`; at its own address, with `raw`, it does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec

from potstill.contract.files import decode, digest
from potstill.labeler.teacher import Identity
from potstill.labeler.teachers import replies
from potstill.labeler.teachers.replies import Completion, parsed
from potstill.labeler.teachers.served_model import Prompt, Served, ServedModel, listed_tokens, read_reply
from potstill.labeler.teachers.terms import LISTS, OWN_FIELDS, Terms, agreed

COMPLETIONS, GENERATE = "/completions", "/api/generate"
_PROBE = "The capital of France is"  # no model ends its answer here, which would give a reply without a list
# Ollama's names for the local teacher's sampling. Its lists are asked for without any filter, lest it lists what a filter left.
_OLLAMA_SAMPLING = {"top_k": 40, "top_p": 1.0, "min_p": 0.0, "repeat_penalty": 1.0}
_OLLAMA_UNFILTERED = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "repeat_penalty": 1.0}


def _text(prompt: Prompt) -> str:
    """The document without lone surrogates, which JSON cannot hold."""
    if not isinstance(prompt, str):
        raise TypeError("a server that continues documents was given a conversation")
    return decode.encodable(prompt)


class CompletionsModel(ServedModel):
    """A model behind `POST /completions`."""

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
        quick: bool = False,
    ) -> Completion:
        """See :meth:`potstill.labeler.teachers.served_model.ServedModel.complete`."""
        standard = {"model": self.served.entry.id, "prompt": _text(prompt), "max_tokens": max_tokens, "temperature": temperature}
        asked = {"n": n if n > 1 else None, "seed": seed, "stop": list(stop) or None, "logprobs": list_length or None}
        body = {
            **standard,
            "top_p": 1.0,
            **{key: value for key, value in asked.items() if value is not None},
            **self.terms.sampling,
        }
        answer = await self.client.post(COMPLETIONS, body, quick=quick)
        return read_reply(self.client, COMPLETIONS, answer.body, replies.decode, "a completion")


async def open_completions(served: Served) -> CompletionsModel:
    """The model behind `POST /completions`, with the longest list that the server gives, and our sampling fields if it takes them.

    Raises:
        RefusedError: if the server does not complete texts.
        UnreadableError: if it answers something else.
    """
    nobody = Identity("", "", "", "")

    async def send(terms: Terms) -> Completion:
        return await CompletionsModel(served, terms, nobody).complete(_PROBE, 1, list_length=terms.list_length, quick=True)

    terms, found = await agreed(send, (OWN_FIELDS, LISTS))
    terms = terms if found.choices[0].listed else replace(terms, list_length=0)
    return CompletionsModel(served, terms, served.identity("completions", found.fingerprint, listed_tokens(terms)))


class OllamaModel(ServedModel):
    """A model behind Ollama's own `POST /api/generate`, which gives one answer a request."""

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
        quick: bool = False,
    ) -> Completion:
        """See :meth:`potstill.labeler.teachers.served_model.ServedModel.complete`; one choice is given, whatever n is."""
        options: dict[str, Any] = {"num_predict": max_tokens}
        options |= _OLLAMA_UNFILTERED if list_length else {"temperature": temperature, **_OLLAMA_SAMPLING}
        options |= {key: value for key, value in {"seed": seed, "stop": list(stop) or None}.items() if value is not None}
        body = {"model": self.served.entry.id, "prompt": _text(prompt), "raw": True, "stream": False, "options": options}
        # a prompt that does not fit is refused, not cut in silence
        body |= {"truncate": False, "shift": False} | ({"logprobs": True, "top_logprobs": list_length} if list_length else {})
        answer = await self.client.post(GENERATE, body, quick=quick)
        return read_reply(self.client, GENERATE, answer.body, replies.decode_generated, "one of Ollama")


class _Tag(msgspec.Struct):
    name: str = ""
    model: str = ""
    digest: str = ""


class _Tags(msgspec.Struct):
    models: list[_Tag] | None = None


class _Version(msgspec.Struct):
    version: str


async def open_ollama(served: Served) -> OllamaModel:
    """The model behind Ollama's own `POST /api/generate`.

    Raises:
        RefusedError: if the server is not Ollama, or lacks the model.
        UnreadableError: if it answers something else.
    """
    client, nobody = served.client, Identity("", "", "", "")
    version = read_reply(
        client,
        "/api/version",
        (await client.get("/api/version", quick=True)).body,
        partial(parsed, kind=_Version),
        "Ollama's version",
    )
    tags = read_reply(
        client,
        "/api/tags",
        (await client.get("/api/tags", quick=True)).body,
        partial(parsed, kind=_Tags),
        "Ollama's list of models",
    )

    async def send(terms: Terms) -> Completion:
        return await OllamaModel(served, terms, nobody).complete(_PROBE, 1, list_length=terms.list_length, quick=True)

    terms, found = await agreed(send, (LISTS,))
    terms = terms if found.choices[0].listed else replace(terms, list_length=0)
    names = {served.entry.id, f"{served.entry.id}:latest"}
    weights = next((tag.digest for tag in tags.models or [] if names & {tag.name, tag.model}), "")
    described = digest.of_value({"id": served.entry.id.removesuffix(":latest"), "ollama": weights})
    build = f"ollama {version.version}; raw, {listed_tokens(terms)}"
    return OllamaModel(served, terms, Identity(served.entry.id, described, described, build, api="ollama"), most_choices=1)
