"""Draw one path through a server: sample a rationale, then read the label.

Prompts are the plain text that the local teacher reads. The server tokenizes them itself, with one difference: most servers parse a
control token that is spelled in a text (`<|im_end|>`) as that token, while the local teacher keeps it as text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from potstill.contract.errors import UserError
from potstill.labeler.teacher import AnswerSpec, PathRequest, TeacherPath, path_seed
from potstill.labeler.teachers.replies import RefusedError
from potstill.labeler.teachers.served_model import ServedModel, refused
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


class RemoteVariant:
    """The parts that all paths of one prompt variant share."""

    def __init__(self, model: ServedModel, prefix: str, variant: int, spec: AnswerSpec, run_seed: int) -> None:
        """Nothing is sent yet; call :meth:`measure_prefix` first."""
        self.model, self.spec = model, spec
        self._prefix, self._variant, self._run_seed = prefix, variant, run_seed
        self._n_prefix = 0
        self.n_after = spec.max_rationale_tokens if spec.mode == "cot" else 1  # most tokens that one HTTP request generates

    async def measure_prefix(self) -> None:
        """Count the prefix's tokens. Afterwards the server's cache holds the prefix, so the texts that follow share it.

        Raises:
            UserError: if the prefix alone overfills the context.
        """
        try:
            self._n_prefix = (await self.model.complete(self._prefix, 1)).n_prompt_tokens
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
                    self._prefix + request.prompt,
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
        prompt = self._prefix + draft.request.prompt
        if self.spec.mode == "cot":
            prompt += f"{draft.rationale}\n{self.spec.answer_cue}"
        if self.model.list_length:
            draft, logprobs = await self._from_lists(draft, prompt)
        else:
            draft, logprobs = await self._from_writing(draft, prompt)
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

    async def _from_lists(self, draft: DraftPath, prompt: str) -> tuple[DraftPath, tuple[float, ...]]:
        """Read the label words from lists of likely tokens. Nothing is sampled."""
        n_prompt_tokens: list[int] = []

        async def fetch_list(beginning: str) -> Listed:
            for n_tried in range(_N_TRIES):
                # Where the likeliest token ends the text, llama_cpp.server lists nothing. The list does not depend on the
                # temperature, so a draw at a high temperature is likely to show it.
                found = await self.model.complete(
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

        logprobs = await word_logprobs(fetch_list, self.spec.words)
        return self._counted(draft, n_prompt_tokens[0]), logprobs

    async def _from_writing(self, draft: DraftPath, prompt: str) -> tuple[DraftPath, tuple[float, ...]]:
        """Read a vote: the word that the model writes, sampled with the path's own seed."""
        seed = self.start(draft.request, draft.path).seed
        found = await self.model.complete(prompt, MOST_WORD_TOKENS, temperature=self.spec.temperature, seed=seed, stop=["\n"])
        counted = self._counted(replace(draft, n_generated=draft.n_generated + found.n_generated), found.n_prompt_tokens)
        return counted, written_logprobs(found.choices[0].text, self.spec.words)

    def _counted(self, draft: DraftPath, n_prompt_tokens: int) -> DraftPath:
        """The draft with its number of prompt tokens, unless the rationale's request counted them."""
        return draft if self.spec.mode == "cot" else replace(draft, n_prompt_tokens=self.beyond_prefix(n_prompt_tokens))
