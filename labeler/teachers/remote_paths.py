"""Draw one path through a server: sample a rationale, then read the label.

A document is the plain text that the local teacher reads. The server tokenizes it itself, with one difference: most servers parse
a control token that is spelled in a text (`<|im_end|>`) as that token, while the local teacher keeps it as text. In a conversation
the worked examples are earlier turns; a rationale is one turn, and the label is asked for in the next. A decision server is asked
once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from potstill.contract.errors import UserError
from potstill.labeler.teacher import NOT_ASKED, AnswerSpec, Message, PathRequest, TeacherPath, path_seed
from potstill.labeler.teachers.decisions import DecidingModel
from potstill.labeler.teachers.replies import RefusedError
from potstill.labeler.teachers.served_model import Prompt, ServedModel, refused
from potstill.labeler.teachers.word_lists import Listed, word_logprobs, written_logprobs

MOST_WORD_TOKENS = 12  # generated for the label word where the server lists no tokens
_N_TRIES = 3  # for a token list, where the model ended its answer at once


@dataclass(frozen=True)
class DraftPath:
    """A path before its label is read."""

    request: PathRequest
    path: int
    seed: int
    rationale: str = ""  # exactly as written, so that the prompt continues from it
    n_prompt_tokens: int = 0  # after the shared prefix
    n_generated: int = 0


def remote_variant(model: ServedModel, prefix: str, variant: int, spec: AnswerSpec, run_seed: int) -> RemoteVariant:
    """What all paths of one prompt variant share, for the way in which the model is asked."""
    if isinstance(model, DecidingModel):
        return DecisionVariant(model, prefix, variant, spec, run_seed)
    kind = ConversationVariant if spec.messages else RemoteVariant
    return kind(model, prefix, variant, spec, run_seed)


class RemoteVariant:
    """The parts that all paths of one prompt variant share; here of documents that the model continues."""

    def __init__(self, model: ServedModel, prefix: str, variant: int, spec: AnswerSpec, run_seed: int) -> None:
        """Nothing is sent yet; call :meth:`measure_prefix` first."""
        self.model, self.spec = model, spec
        self._prefix, self._variant, self._run_seed = prefix, variant, run_seed
        self._n_prefix = 0
        self.n_after = spec.max_rationale_tokens if spec.mode == "cot" else 1  # most tokens that one HTTP request generates

    @property
    def shared_prompt(self) -> Prompt:
        """What all prompts share."""
        return self._prefix

    def first_prompt(self, request: PathRequest) -> Prompt:
        """The prompt of a text, up to what the model writes first."""
        return self._prefix + request.prompt

    def label_prompt(self, draft: DraftPath) -> Prompt:
        """The prompt that the label follows."""
        prompt = self._prefix + draft.request.prompt
        return f"{prompt}{draft.rationale}\n{self.spec.answer_cue}" if self.spec.mode == "cot" else prompt

    async def measure_prefix(self) -> None:
        """Count the prefix's tokens. Afterwards the server's cache holds the prefix, so the texts that follow share it.

        Raises:
            UserError: if the prefix alone overfills the context.
        """
        try:
            self._n_prefix = (await self.model.complete(self.shared_prompt, 1)).n_prompt_tokens
        except RefusedError as error:
            if not error.limit:
                raise refused(self.model.client, error) from None
            raise UserError(
                f"the prompt's shared part alone is too long for the server's context ({error.words}); "
                "shorten the guideline or the examples, or start the server with a longer context"
            ) from None

    def beyond_prefix(self, n_tokens: int) -> int:
        """Number of tokens of a whole prompt without its prefix; 0 where the server does not count."""
        return max(0, n_tokens - self._n_prefix)

    def start(self, request: PathRequest, path: int) -> DraftPath:
        """Start a path, with its seed and nothing else."""
        return DraftPath(request, path, path_seed(self._run_seed, request.text_id, path))

    async def sample_rationales(self, request: PathRequest, paths: Sequence[int]) -> tuple[list[DraftPath], list[int]]:
        """Sample rationales of the first paths in one HTTP request, as many as the server gives; returns them and the other paths.

        The paths of one HTTP request carry the seed that was sent, the first path's; vLLM and llama-server count up from it.
        The generated tokens are divided equally among the paths.

        Raises:
            RefusedError: if the server rejects even a single rationale.
        """
        model, spec = self.model, self.spec
        seed = self.start(request, paths[0]).seed
        while True:
            n = min(len(paths), model.most_choices)
            try:
                found = await model.complete(
                    self.first_prompt(request),
                    spec.max_rationale_tokens,
                    temperature=spec.temperature,
                    n=n,
                    seed=seed,
                    stop=["\n"],
                )
                break
            except RefusedError as error:
                if n == 1 or error.limit:
                    raise
                model.most_choices = min(model.most_choices, n // 2)  # llama-server refuses more than it has slots
        choices = found.choices[:n]
        if len(choices) < n:  # llama_cpp.server and Ollama give one, whatever n is
            model.most_choices = min(model.most_choices, len(choices))
        n_prompt, (share, rest) = self.beyond_prefix(found.n_prompt_tokens), divmod(found.n_generated, len(choices))
        drafts = [
            DraftPath(request, paths[i], seed, choice.text.partition("\n")[0], n_prompt, share + (i < rest))
            for i, choice in enumerate(choices)
        ]
        return drafts, list(paths[len(choices) :])

    async def read(self, draft: DraftPath) -> TeacherPath:
        """Read the log-probability of every label word; `teachers.word_lists` describes how exact it is.

        Raises:
            RefusedError: if the server rejects the prompt, most likely because rationale and cue no longer fit.
        """
        prompt = self.label_prompt(draft)
        places = draft.request.words or range(len(self.spec.words))
        words = [self.spec.words[place] for place in places]
        if self.model.list_length:
            draft, logprobs = await self._from_lists(draft, prompt, words)
        else:
            draft, logprobs = await self._from_writing(draft, prompt, words)
        found = dict(zip(places, logprobs, strict=True))
        return self._path(draft, tuple(found.get(place, NOT_ASKED) for place in range(len(self.spec.words))))

    def _path(self, draft: DraftPath, logprobs: tuple[float, ...]) -> TeacherPath:
        """The finished path."""
        return TeacherPath(
            text_id=draft.request.text_id,
            path=draft.path,
            variant=self._variant,
            seed=draft.seed,
            rationale=draft.rationale.strip(),
            word_logprobs=logprobs,
            n_prompt_tokens=draft.n_prompt_tokens,
            n_generated=draft.n_generated,
        )

    async def _from_lists(self, draft: DraftPath, prompt: Prompt, words: Sequence[str]) -> tuple[DraftPath, tuple[float, ...]]:
        """Read the label words from lists of likely tokens. Nothing is sampled."""
        n_prompt_tokens: list[int] = []

        async def fetch_list(beginning: str, alone: bool) -> Listed | None:
            listed: Listed = {}
            for n_tried in range(_N_TRIES):
                # Where the likeliest token ends the text, llama_cpp.server lists nothing. The list does not depend on the
                # temperature, so a draw at a high temperature is likely to show it.
                found = await self.model.list_after(
                    prompt, beginning, alone=alone, temperature=2.0 if n_tried else 0.0, seed=n_tried or None
                )
                if found is None:
                    return None
                n_prompt_tokens.append(found.n_prompt_tokens)
                listed = found.choices[0].listed
                if listed:
                    break
            return listed

        logprobs = await word_logprobs(fetch_list, words, spaced=self.model.spaced)
        return self._counted(draft, n_prompt_tokens[0]), logprobs

    async def _from_writing(self, draft: DraftPath, prompt: Prompt, words: Sequence[str]) -> tuple[DraftPath, tuple[float, ...]]:
        """Read a vote: the word that the model writes, sampled with the path's own seed."""
        seed = self.start(draft.request, draft.path).seed
        found = await self.model.complete(prompt, MOST_WORD_TOKENS, temperature=self.spec.temperature, seed=seed, stop=["\n"])
        counted = self._counted(replace(draft, n_generated=draft.n_generated + found.n_generated), found.n_prompt_tokens)
        return counted, written_logprobs(found.choices[0].text, words)

    def _counted(self, draft: DraftPath, n_prompt_tokens: int) -> DraftPath:
        """The draft with its number of prompt tokens, unless the rationale's request counted them."""
        return draft if self.spec.mode == "cot" else replace(draft, n_prompt_tokens=self.beyond_prefix(n_prompt_tokens))


class ConversationVariant(RemoteVariant):
    """The parts that all paths of one prompt variant share, of conversations with a chat server."""

    @property
    def shared_prompt(self) -> Prompt:
        """The turns before a text's own, and the cue as the next one: a conversation must not end with an answer."""
        return (*self.spec.messages, Message("user", f"{self.spec.answer_cue}"))

    def first_prompt(self, request: PathRequest) -> Prompt:
        """The text is the last turn."""
        return (*self.spec.messages, Message("user", request.prompt))

    def label_prompt(self, draft: DraftPath) -> Prompt:
        """After a rationale, which is a turn of the model, the next turn is the cue."""
        turns = (*self.spec.messages, Message("user", draft.request.prompt))
        if self.spec.mode != "cot":
            return turns
        if not draft.rationale.strip():  # some templates refuse an empty turn
            return (*self.spec.messages, Message("user", f"{draft.request.prompt}\n{self.spec.answer_cue}"))
        return (*turns, Message("assistant", draft.rationale.strip()), Message("user", self.spec.answer_cue))


class DecisionVariant(RemoteVariant):
    """One question, asked about every text."""

    model: DecidingModel

    async def measure_prefix(self) -> None:
        """Nothing to measure: question and text travel together."""

    async def read(self, draft: DraftPath) -> TeacherPath:
        """Have the question answered; raises as :meth:`RemoteVariant.read`."""
        question = self.spec.question
        if question is None:
            raise TypeError("a decision server was given a prompt without a question")
        if draft.request.words:
            asked = {self.spec.words[place] for place in draft.request.words}
            question = replace(question, options=tuple(option for option in question.options if option[0] in asked))
        found = await self.model.decide(question, draft.request.prompt)
        by_word = dict(zip((word for word, _ in question.options), found.logprobs, strict=True))
        return self._path(
            replace(draft, n_prompt_tokens=found.n_prompt_tokens), tuple(by_word.get(word, NOT_ASKED) for word in self.spec.words)
        )
