"""Drawing one path through a server: a rationale, sampled, then the label, read.

Prompts are the plain text that the local teacher reads. The server splits them into tokens itself, which differs in one thing: most
servers take a control token that is spelled in a text (`<|im_end|>`) for the token, where the local teacher keeps it as text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from potstill.contract.errors import UserError
from potstill.labeler.teacher import AnswerSpec, PathRequest, TeacherPath, path_seed
from potstill.labeler.teachers.replies import RefusedError
from potstill.labeler.teachers.served_model import ServedModel, refused
from potstill.labeler.teachers.word_lists import Listed, word_logprobs, written_logprobs

MOST_WORD_TOKENS = 12  # that a server without lists may write for the label word
_N_TRIES = 3  # for a list where the model ended at once


@dataclass(frozen=True)
class DraftPath:
    """A path before its label is read."""

    ask: PathRequest
    path: int
    seed: int
    rationale: str = ""  # as it was written, so that the prompt goes on exactly from it
    n_prompt_tokens: int = 0  # after the shared prefix
    n_generated: int = 0


class RemoteVariant:
    """What all paths of one prompt variant share."""

    def __init__(self, model: ServedModel, prefix: str, variant: int, spec: AnswerSpec, run_seed: int) -> None:
        """Nothing is sent yet; :meth:`measure_prefix` comes first."""
        self.model, self.spec = model, spec
        self._prefix, self._variant, self._run_seed = prefix, variant, run_seed
        self._n_prefix = 0
        self.n_after = spec.max_rationale_tokens if spec.mode == "cot" else 1  # most tokens that a request adds

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

    def start(self, ask: PathRequest, path: int) -> DraftPath:
        """A path that nothing is known of but its seed."""
        return DraftPath(ask, path, path_seed(self._run_seed, ask.text_id, path))

    async def sample_rationales(self, ask: PathRequest, paths: Sequence[int]) -> tuple[list[DraftPath], list[int]]:
        """Rationales of the first paths, in one request for as many as the server gives, and the paths left over.

        The paths of one request have the seed that was sent with it, that of the first of them; vLLM and llama-server count up
        from it. Of the generated tokens each gets an equal share.

        Raises:
            RefusedError: if the server refuses even a single rationale.
        """
        model, spec = self.model, self.spec
        seed = self.start(ask, paths[0]).seed
        while True:
            n = min(len(paths), model.most_choices)
            try:
                found = await model.go_on(
                    self._prefix + ask.prompt,
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
        if len(choices) < n:  # llama_cpp.server and Ollama give one, whatever is asked
            model.most_choices = min(model.most_choices, len(choices))
        n_prompt, (share, rest) = self.beyond_prefix(found.n_prompt_tokens), divmod(found.n_generated, len(choices))
        drafts = [
            DraftPath(ask, paths[i], seed, choice.text.partition("\n")[0], n_prompt, share + (i < rest))
            for i, choice in enumerate(choices)
        ]
        return drafts, list(paths[len(choices) :])

    async def read(self, draft: DraftPath) -> TeacherPath:
        """The path with the log-probability of every label word; `teachers.word_lists` says how exactly.

        Raises:
            RefusedError: if the server refuses; most likely because rationale and cue no longer fit.
        """
        prompt = self._prefix + draft.ask.prompt
        if self.spec.mode == "cot":
            prompt += f"{draft.rationale}\n{self.spec.answer_cue}"
        if self.model.list_length:
            draft, logprobs = await self._from_lists(draft, prompt)
        else:
            draft, logprobs = await self._from_writing(draft, prompt)
        return TeacherPath(
            text_id=draft.ask.text_id,
            path=draft.path,
            variant=self._variant,
            seed=draft.seed,
            rationale=draft.rationale.strip(),
            word_logprobs=logprobs,
            n_prompt_tokens=draft.n_prompt_tokens,
            n_generated=draft.n_generated,
        )

    async def _from_lists(self, draft: DraftPath, prompt: str) -> tuple[DraftPath, tuple[float, ...]]:
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

        logprobs = await word_logprobs(ask, self.spec.words)
        return self._counted(draft, n_prompt_tokens[0]), logprobs

    async def _from_writing(self, draft: DraftPath, prompt: str) -> tuple[DraftPath, tuple[float, ...]]:
        """A vote: the word that the model writes, drawn at the reading's temperature with the path's own seed."""
        seed = self.start(draft.ask, draft.path).seed
        found = await self.model.go_on(prompt, MOST_WORD_TOKENS, temperature=self.spec.temperature, seed=seed, stop=["\n"])
        counted = self._counted(replace(draft, n_generated=draft.n_generated + found.n_generated), found.n_prompt_tokens)
        return counted, written_logprobs(found.choices[0].text, self.spec.words)

    def _counted(self, draft: DraftPath, n_prompt_tokens: int) -> DraftPath:
        """With the prompt's tokens, unless the rationale's request counted them."""
        return draft if self.spec.mode == "cot" else replace(draft, n_prompt_tokens=self.beyond_prefix(n_prompt_tokens))
