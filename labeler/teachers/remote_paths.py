"""Drawing one path through a server: a rationale, sampled, then the label, read.

Prompts are the plain text that the local teacher reads. The server splits them into tokens itself, which differs in one thing: most
servers take a control token that is spelled in a text (`<|im_end|>`) for the token, where the local teacher keeps it as text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from potstill.contract.errors import UserError
from potstill.labeler.teacher import Ask, Reading, TeacherPath, path_seed
from potstill.labeler.teachers.replies import RefusedError
from potstill.labeler.teachers.served_model import ServedModel, refused
from potstill.labeler.teachers.word_lists import Listed, word_logprobs, written_logprobs

MOST_WORD_TOKENS = 12  # that a server without lists may write for the label word
_N_TRIES = 3  # for a list where the model ended at once


@dataclass(frozen=True)
class Thought:
    """A path before its label is read."""

    ask: Ask
    path: int
    seed: int
    rationale: str = ""  # as it was written, so that the prompt goes on exactly from it
    n_prompt_tokens: int = 0  # after the shared prefix
    n_generated: int = 0


class RemoteDraw:
    """What all paths of one prompt variant share."""

    def __init__(self, model: ServedModel, prefix: str, variant: int, reading: Reading, run_seed: int) -> None:
        """Nothing is sent yet; :meth:`measure_prefix` comes first."""
        self.model, self.reading = model, reading
        self._prefix, self._variant, self._run_seed = prefix, variant, run_seed
        self._n_prefix = 0
        self.n_after = reading.max_rationale_tokens if reading.mode == "cot" else 1  # most tokens that a request adds

    async def measure_prefix(self) -> None:
        """Count the prefix's tokens. The server's cache holds the prefix afterwards, so the texts that follow share it.

        Raises:
            UserError: if the prefix alone overfills the context.
        """
        try:
            self._n_prefix = (await self.model.go_on(self._prefix, 1)).n_prompt_tokens
        except RefusedError as error:
            if not error.limit:
                raise refused(self.model.client, error) from None
            raise UserError(
                f"the prompt's shared part alone is too long for the server's context ({error.words}); "
                "shorten the guideline or the examples, or start the server with a longer context"
            ) from None

    def beyond_prefix(self, n_tokens: int) -> int:
        """Tokens of a whole prompt without its prefix; 0 where the server does not count."""
        return max(0, n_tokens - self._n_prefix)

    def start(self, ask: Ask, path: int) -> Thought:
        """A path that nothing is known of but its seed."""
        return Thought(ask, path, path_seed(self._run_seed, ask.text_id, path))

    async def think(self, ask: Ask, paths: Sequence[int]) -> tuple[list[Thought], list[int]]:
        """Rationales of the first paths, in one request for as many as the server gives, and the paths left over.

        The paths of one request have the seed that was sent with it, that of the first of them; vLLM and llama-server count up
        from it. Of the generated tokens each gets an equal share.

        Raises:
            RefusedError: if the server refuses even a single rationale.
        """
        model, reading = self.model, self.reading
        seed = self.start(ask, paths[0]).seed
        while True:
            n = min(len(paths), model.most_choices)
            try:
                found = await model.go_on(
                    self._prefix + ask.prompt,
                    reading.max_rationale_tokens,
                    temperature=reading.temperature,
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
        if len(choices) < n:  # llama_cpp.server and Ollama give one, whatever is asked
            model.most_choices = min(model.most_choices, len(choices))
        n_prompt, (share, rest) = self.beyond_prefix(found.n_prompt_tokens), divmod(found.n_generated, len(choices))
        thoughts = [
            Thought(ask, paths[i], seed, choice.text.partition("\n")[0], n_prompt, share + (i < rest))
            for i, choice in enumerate(choices)
        ]
        return thoughts, list(paths[len(choices) :])

    async def read(self, thought: Thought) -> TeacherPath:
        """The path with the log-probability of every label word; `teachers.word_lists` says how exactly.

        Raises:
            RefusedError: if the server refuses; most likely because rationale and cue no longer fit.
        """
        prompt = self._prefix + thought.ask.prompt
        if self.reading.mode == "cot":
            prompt += f"{thought.rationale}\n{self.reading.answer_cue}"
        if self.model.list_length:
            thought, logprobs = await self._from_lists(thought, prompt)
        else:
            thought, logprobs = await self._from_writing(thought, prompt)
        return TeacherPath(
            text_id=thought.ask.text_id,
            path=thought.path,
            variant=self._variant,
            seed=thought.seed,
            rationale=thought.rationale.strip(),
            word_logprobs=logprobs,
            n_prompt_tokens=thought.n_prompt_tokens,
            n_generated=thought.n_generated,
        )

    async def _from_lists(self, thought: Thought, prompt: str) -> tuple[Thought, tuple[float, ...]]:
        """Label words priced by lists of likely tokens. Nothing is sampled."""
        n_prompt_tokens: list[int] = []

        async def ask(beginning: str) -> Listed:
            for n_tried in range(_N_TRIES):
                # Where the likeliest token ends the text, llama_cpp.server lists nothing. The list does not depend on the
                # temperature, so a hot draw is likely to show it.
                found = await self.model.go_on(
                    prompt + beginning,
                    1,
                    temperature=2.0 if n_tried else 0.0,
                    seed=n_tried or None,
                    list_length=self.model.list_length,
                )
                n_prompt_tokens.append(found.n_prompt_tokens)
                if found.choices[0].listed:
                    break
            return found.choices[0].listed

        logprobs = await word_logprobs(ask, self.reading.words)
        return self._counted(thought, n_prompt_tokens[0]), logprobs

    async def _from_writing(self, thought: Thought, prompt: str) -> tuple[Thought, tuple[float, ...]]:
        """A vote: the word that the model writes, drawn at the reading's temperature with the path's own seed."""
        seed = self.start(thought.ask, thought.path).seed
        found = await self.model.go_on(prompt, MOST_WORD_TOKENS, temperature=self.reading.temperature, seed=seed, stop=["\n"])
        counted = self._counted(replace(thought, n_generated=thought.n_generated + found.n_generated), found.n_prompt_tokens)
        return counted, written_logprobs(found.choices[0].text, self.reading.words)

    def _counted(self, thought: Thought, n_prompt_tokens: int) -> Thought:
        """With the prompt's tokens, unless the rationale's request counted them."""
        return thought if self.reading.mode == "cot" else replace(thought, n_prompt_tokens=self.beyond_prefix(n_prompt_tokens))
