"""Small strict servers of a known model, written from the published types: what a request may hold and what a reply holds.

`script(...)` is what `scripted_server` takes. A request that the published types do not allow is refused, as the servers do.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Reply = tuple[int, dict[str, str], Any]
Script = Callable[[str, Any], Reply]
END = "<|im_end|>"
CHAT_FIELDS = {
    "model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "n", "seed", "stop", "logprobs", "top_logprobs",
}  # fmt: skip
OLLAMA_FIELDS = {"model", "prompt", "raw", "stream", "options", "truncate", "shift", "logprobs", "top_logprobs"}
OLLAMA_OPTIONS = {"num_predict", "temperature", "top_k", "top_p", "min_p", "repeat_penalty", "seed", "stop"}


def tokens(text: str) -> list[str]:
    """The text in tokens of at most four letters, each with the space before it; digits are tokens of their own."""
    return [*re.findall(r"\s?(?:[^\W\d]{1,4}|\d|[^\w\s])|\s", text), END]


@dataclass(frozen=True)
class ToyModel:
    """A model that gives each answer with a known probability, after whatever prompt."""

    answers: Mapping[str, float]

    def next_tokens(self, beginning: str) -> dict[str, float]:
        """Probability of each next token after a beginning of the answer."""
        found: dict[str, float] = {}
        for answer, prob in self.answers.items():
            for i, token in enumerate(own := tokens(answer)):
                if "".join(own[:i]) == beginning:
                    found[token] = found.get(token, 0.0) + prob
        total = sum(found.values())
        return {token: prob / total for token, prob in found.items()} if total else {END: 1.0}

    def path(self, beginning: str, n: int) -> list[tuple[str, dict[str, float]]]:
        """The likeliest tokens after the beginning, each with what was likely in its place."""
        made: list[tuple[str, dict[str, float]]] = []
        while len(made) < n and not (made and made[-1][0] == END):
            listed = self.next_tokens(beginning)
            token = max(listed, key=lambda token: listed[token])
            made.append((token, listed))
            beginning += token
        return made


def refusal(message: str, status: int = 400) -> Reply:
    """An error as OpenAI gives it."""
    return status, {}, {"error": {"message": message, "type": "invalid_request_error"}}


def positions(path: list[tuple[str, dict[str, float]]], n_listed: int) -> list[dict[str, Any]]:
    """The lists of chat replies, which Ollama gives too."""

    def shown(token: str, prob: float) -> dict[str, Any]:
        return {"token": token, "logprob": math.log(prob), "bytes": list(token.encode())}

    return [
        {**shown(token, listed[token]), "top_logprobs": [shown(t, p) for t, p in sorted(listed.items(), key=lambda x: -x[1])[:n_listed]]}
        for token, listed in path
    ]  # fmt: skip


def written(path: list[tuple[str, dict[str, float]]]) -> str:
    """The text of a path."""
    return "".join(token for token, _ in path if token != END)


def check_lists(body: Mapping[str, Any]) -> str:
    """What is wrong with the fields about log-probabilities."""
    if "top_logprobs" in body and not body.get("logprobs"):
        return "top_logprobs requires logprobs to be set to true"
    return "top_logprobs must be between 0 and 20" if not 0 <= body.get("top_logprobs", 0) <= 20 else ""


def chat_server(
    model: ToyModel, *, goes_on: bool = False, allowed: set[str] = CHAT_FIELDS, rationale: str = "Because it is.", refuse: str = ""
) -> Script:
    """A server that only converses.

    Args:
        goes_on: whether a last turn of the assistant is continued.
        allowed: the fields of a request; others are refused.
        rationale: what the model writes where several tokens are asked for without lists.
        refuse: a role that its template refuses.
    """

    def answer(path: str, body: Any) -> Reply:
        if path == "/v1/models":
            return 200, {"Server": "toy"}, {"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "me"}]}
        if path != "/v1/chat/completions":
            return refusal(f"Unexpected endpoint or method. ({path})", 404)
        unknown = set(body) - allowed
        if unknown:
            return refusal(f"Unrecognized request argument supplied: {sorted(unknown)[0]}")
        roles = [message["role"] for message in body["messages"]]
        if refuse in roles:
            return refusal("System role not supported", 500)
        if any(set(message) != {"role", "content"} or not isinstance(message["content"], str) for message in body["messages"]):
            return refusal("messages must have role and content")
        talk = roles[1:] if roles[0] == "system" else roles
        if any(role != ("user", "assistant")[i % 2] for i, role in enumerate(talk)):
            return refusal("Conversation roles must alternate user/assistant/user/assistant")
        if wrong := check_lists(body):
            return refusal(wrong)
        begun = body["messages"][-1]["content"] if goes_on and roles[-1] == "assistant" else ""
        n_tokens = body.get("max_tokens") or body.get("max_completion_tokens")
        made = [("ance", {"ance": 1.0})] if begun == "The capital of Fr" else model.path(begun, n_tokens)
        text = rationale if n_tokens > 1 and not body.get("logprobs") else written(made)
        lists = {"content": positions(made, body["top_logprobs"])} if body.get("logprobs") else None
        choices = [
            {"index": i, "message": {"role": "assistant", "content": text}, "logprobs": lists, "finish_reason": "length"}
            for i in range(body.get("n", 1))
        ]
        usage = {"prompt_tokens": 10 * len(roles), "completion_tokens": len(made), "total_tokens": 0}
        return 200, {"Server": "toy"}, {"id": "x", "object": "chat.completion", "choices": choices, "usage": usage}

    return answer


def ollama_server(model: ToyModel, *, lists: bool = True) -> Script:
    """Ollama: its own API beside one of OpenAI's shape, which writes its template around a text and lists nothing.

    Args:
        lists: whether it is as new as 0.12.11, which lists likely tokens.
    """

    def answer(path: str, body: Any) -> Reply:
        if path == "/v1/models":
            return 200, {}, {"object": "list", "data": [{"id": "toy:latest", "object": "model", "owned_by": "library"}]}
        if path == "/v1/completions":
            return (
                200,
                {},
                {
                    "choices": [{"text": "Paris", "index": 0, "finish_reason": "length"}],
                    "usage": {},
                    "system_fingerprint": "fp_ollama",
                },
            )
        if path == "/api/version":
            return 200, {}, {"version": "0.35.1"}
        if path == "/api/tags":
            return (
                200,
                {},
                {"models": [{"name": "toy:latest", "model": "toy:latest", "digest": "d1", "details": {"family": "toy"}}]},
            )
        if path != "/api/generate":
            return 404, {}, b"404 page not found"
        if wrong := check_lists(body):
            return 400, {}, {"error": wrong}
        unknown = (set(body) - OLLAMA_FIELDS) | (set(body["options"]) - OLLAMA_OPTIONS)
        if unknown or not body["raw"] or body["stream"] or body["model"] != "toy:latest":
            return 400, {}, {"error": f"unexpected {sorted(unknown)}"}
        if len(body["prompt"]) > 2000 and not body.get("truncate", True):
            return 400, {}, {"error": "the input length exceeds the context length"}
        beginning = next((a for a in ("", *_beginnings(model)) if body["prompt"].endswith(f":{a}")), "")
        made = model.path(beginning, body["options"]["num_predict"])
        reply = {"model": "toy:latest", "response": written(made), "done": True, "prompt_eval_count": 12, "eval_count": len(made)}
        return 200, {}, reply | ({"logprobs": positions(made, body["top_logprobs"])} if body.get("logprobs") and lists else {})

    return answer


def _beginnings(model: ToyModel) -> list[str]:
    """Every beginning of an answer, the longest first."""
    found = {"".join(tokens(answer)[:i]) for answer in model.answers for i in range(1, len(tokens(answer)))}
    return sorted(found, key=len, reverse=True)


def decisions_server(decide: Callable[[str, list[str]], Any]) -> Script:
    """A server of `POST /v1/decisions`, strict as the types of the `openai` package 3.54.

    Args:
        decide: from the input and the options in the order asked to their probabilities, or to a whole answer.
    """

    def answer(path: str, body: Any) -> Reply:
        if path == "/v1/models":
            return 200, {"Server": "decider"}, {"data": [{"id": "luna", "object": "model", "owned_by": "me"}]}
        if path != "/v1/decisions":
            return refusal("Not Found", 404)
        if set(body) != {"input", "model", "questions"} or not isinstance(body["input"], str):
            return refusal(f"unexpected fields {sorted(body)}")
        (question,) = body["questions"]
        if set(question) != {"type", "name", "instructions", "choices"} or question["type"] != "choice":
            return refusal(f"unexpected fields {sorted(question)}")
        if any(set(choice) != {"value", "description"} for choice in question["choices"]):
            return refusal("unexpected fields of a choice")
        values = [choice["value"] for choice in question["choices"]]
        if not 2 <= len(set(values)) == len(values) <= 255:
            return refusal("Provide between 2 and 255 choices. Each choice must be unique.")
        found = decide(body["input"], values)
        if isinstance(found, list):
            best = max(range(len(found)), key=lambda i: found[i])
            listed = [{"value": value, "probability": prob} for value, prob in zip(values, found, strict=True)]
            found = {
                "type": "choice",
                "name": question["name"],
                "choice": values[best],
                "confidence": found[best],
                "probabilities": listed,
            }
        details = {
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        }
        usage = {"input_tokens": 30, "output_tokens": 0, "total_tokens": 30, **details}
        return 200, {"Server": "decider"}, {"model": "luna-2026-11", "answers": [found], "usage": usage}

    return answer


def system_one_server(decide: Callable[[str, list[str]], list[float]], *, extra: Mapping[str, Any] | None = None) -> Script:
    """A server of `POST /v1/systemone` as llama.cpp's README and SGLang's documentation describe it.

    Args:
        decide: from the state and the options in the order asked to their probabilities; none: it does not answer.
        extra: further fields of an answer.
    """

    def answer(path: str, body: Any) -> Reply:
        if path == "/v1/models":
            entry = {"id": "kev.gguf", "architecture": {"input_modalities": ["text"], "output_modalities": ["decisions"]}}
            return 200, {"Server": "llama.cpp"}, {"data": [entry]}
        if path != "/v1/systemone":
            return refusal("This server does not generate text", 501)
        if not set(body) <= {"model", "state", "questions"} or not isinstance(body["state"], str):
            return refusal(f"unexpected fields {sorted(body)}")
        answers: dict[str, Any] = {}
        for name, question in body["questions"].items():
            if set(question) != {"type", "instructions", "criteria"} or question["type"] != "choice":
                return refusal(f"unexpected fields {sorted(question)}", 422)
            if any(not (meaning is None or isinstance(meaning, str)) for meaning in question["criteria"].values()):
                return refusal("a description must be a string or null", 422)
            probs = decide(body["state"], list(question["criteria"]))
            if probs:
                by_option = dict(zip(question["criteria"], probs, strict=True))
                best = max(by_option, key=lambda option: by_option[option])
                answers[name] = {"type": "choice", "choice": best, "probabilities": by_option, "confidence": 0.9, **(extra or {})}
        return 200, {"Server": "llama.cpp"}, {"model": "kev", "answers": answers, "usage": {"input_tokens": 40, "output_tokens": 0}}

    return answer
