"""Have a server answer in a conversation: OpenAI's `POST /chat/completions`, whose answers hold lists of likely tokens.

The server writes the conversation in the model's own template. The worked examples are earlier turns, and the label is the first
thing that the model writes in its turn. A word of several tokens is walked where the server goes on from a turn that was begun for
it (llama-server, vLLM). Elsewhere its first token stands for it, unless another label word begins so too: then both are walked as
far as the model's own answer goes along with them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from potstill.contract.files import decode
from potstill.labeler.teacher import Identity, Message
from potstill.labeler.teachers import replies
from potstill.labeler.teachers.replies import Completion, CompletionChoice, RefusedError
from potstill.labeler.teachers.served_model import Prompt, Served, ServedModel, listed_tokens, read_reply
from potstill.labeler.teachers.terms import LISTS, NEW_LIMIT, OWN_FIELDS, SYSTEM, THOUGHT_SWITCH, Terms, agreed

CHAT = "/chat/completions"
N_PATH = 8  # tokens of the model's own answer, along which a word is walked where the server cannot go on from a beginning
_ASK = (Message("system", "Answer with one word."), Message("user", "What is the capital of France?"))
# No turn begins with the rest of a word: a server that lists it has gone on from the turn that was begun.
_BEGUN = (Message("user", "Repeat: The capital of France is Paris."), Message("assistant", "The capital of Fr"))
_REST = "ance"
_GO_ON: tuple[dict[str, Any], ...] = ({}, {"continue_final_message": True, "add_generation_prompt": False})  # llama-server; vLLM
_THOUGHT_MARKS = ("<think", "<|channel|>", "[THINK]", "<|START_THINKING|>", "<seed:think>")


@dataclass
class ChatModel(ServedModel):
    """A model behind `POST /chat/completions`."""

    _going_on: dict[str, Any] | None = field(
        default=None, kw_only=True
    )  # fields that make it go on from a turn; None: not known yet
    _cannot_go_on: bool = field(default=False, kw_only=True)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock, kw_only=True)

    spaced = False

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
        extra: dict[str, Any] | None = None,
    ) -> Completion:
        """See :meth:`potstill.labeler.teachers.served_model.ServedModel.complete`. Args: extra, further fields of the request."""
        if isinstance(prompt, str):
            raise TypeError("a chat server was given a document")
        terms = self.terms
        body: dict[str, Any] = {"model": self.served.entry.id, "messages": _turns(prompt, system=terms.system)}
        body |= {terms.most_tokens: max_tokens, "temperature": temperature, "top_p": 1.0}
        asked = {"n": n if n > 1 else None, "seed": seed, "stop": list(stop) or None}
        body |= {key: value for key, value in asked.items() if value is not None}
        body |= {"logprobs": True, "top_logprobs": list_length} if list_length else {}
        body |= {**terms.sampling, **terms.no_thought, **(extra or {})}
        answer = await self.client.post(CHAT, body, quick=quick)
        return read_reply(self.client, CHAT, answer.body, replies.decode_chat, "an answer of a conversation")

    async def list_after(
        self, prompt: Prompt, beginning: str, *, alone: bool = False, temperature: float = 0.0, seed: int | None = None
    ) -> Completion | None:
        """See :meth:`potstill.labeler.teachers.served_model.ServedModel.list_after`.

        Without a beginning the list is asked for at temperature 1, which changes nothing where lists are made before sampling, and
        gives the model's own probabilities where they are made after it.
        """
        if isinstance(prompt, str):
            raise TypeError("a chat server was given a document")
        if not beginning:
            return await self.complete(prompt, 1, temperature=temperature or 1.0, seed=seed, list_length=self.terms.list_length)
        async with self._lock:
            if self._going_on is None and not self._cannot_go_on:
                self._going_on = await self._how_it_goes_on()
                self._cannot_go_on = self._going_on is None
        if self._going_on is None:
            return None if alone else await self._along_its_answer(prompt, beginning)
        begun = (*prompt, Message("assistant", beginning))
        return await self.complete(
            begun, 1, temperature=temperature or 1.0, seed=seed, list_length=self.terms.list_length, extra=self._going_on
        )

    async def _how_it_goes_on(self) -> dict[str, Any] | None:
        """The fields with which the server goes on from a turn that was begun; None if it begins a new one."""
        for fields in _GO_ON:
            try:
                found = await self.complete(_BEGUN, 1, list_length=self.terms.list_length, quick=True, extra=fields)
            except RefusedError:
                continue
            listed = found.choices[0].listed
            if listed and max(listed, key=lambda token: listed[token]).startswith(_REST):
                return fields
        return None

    async def _along_its_answer(self, prompt: Prompt, beginning: str) -> Completion | None:
        """The list at the place in the model's likeliest answer that follows the beginning; None if it answers something else."""
        found = await self.complete(prompt, N_PATH, temperature=0.0, list_length=self.terms.list_length)
        so_far = ""
        for position in found.choices[0].positions:
            if so_far == beginning:
                return replace(found, choices=[CompletionChoice("", (position,))])
            so_far = (so_far + position.token).removeprefix("" if so_far else " ")
        return None


async def open_chat(served: Served) -> ChatModel:
    """The model behind `POST /chat/completions`, with the longest list and all fields that the server takes.

    Raises:
        RefusedError: if the server does not converse, or the model thinks before it answers: a label cannot be read in a thought.
        UnreadableError: if it answers something else.
    """
    nobody = Identity("", "", "", "")

    async def send(terms: Terms) -> Completion:
        return await ChatModel(served, terms, nobody).complete(_ASK, 1, temperature=1.0, list_length=terms.list_length, quick=True)

    terms, found = await agreed(send, (OWN_FIELDS, THOUGHT_SWITCH, LISTS, SYSTEM, NEW_LIMIT))
    choice = found.choices[0]
    if choice.thought or any(
        mark in f"{choice.text}{max(choice.listed, key=choice.listed.__getitem__, default='')}" for mark in _THOUGHT_MARKS
    ):
        why = b"the model thinks before it answers, and the server does not turn that off; a label cannot be read inside a thought"
        raise RefusedError(0, why)
    terms = terms if choice.listed else replace(terms, list_length=0)
    return ChatModel(served, terms, served.identity("chat", found.fingerprint, f"chat, {listed_tokens(terms)}"))


def _turns(messages: Sequence[Message], *, system: bool) -> list[dict[str, str]]:
    """The turns as JSON; without a system message, its words begin the first turn."""
    turns = [{"role": message.role, "content": decode.encodable(message.content)} for message in messages]
    if system or not turns or turns[0]["role"] != "system" or len(turns) < 2:
        return turns
    first, second, *others = turns
    return [{**second, "content": f"{first['content']}\n\n{second['content']}"}, *others]
