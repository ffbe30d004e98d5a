"""Ask a server's `/v1/decisions` thousands of random questions, sound and not, and hold each reply against openai's own types.

    python benchmarks/promises/decision_fuzz.py out/bundle --cases 10000

A server is started with the bundle. Half of the requests are sound: for each the questions that the bundle decides, by name or by
options in any order, are mixed with questions that it does not decide, and the reply must have for each the bundle's own
probabilities, as `/classify` gives them, or a refusal. The other half are such requests with parts changed, left out or repeated.
What is wrong is a reply of status 200 that `openai.types.Decision` refuses in strict mode or that has fields it does not know; an
error that is not that API's; an answer where a refusal is due, or the other way round; a probability that is not the bundle's; a
5xx other than a refusal. A few hundred of the requests go through the unmodified client. Prints what was asked and what is wrong;
ends with 1 if anything is.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
from odd_requests import changed, encoded
from openai.types import Decision
from protocol_fuzz import REFUSALS, server
from pydantic import BaseModel, ValidationError

WORDS = "the price will rise fall stay buy sell calls puts why what never surely perhaps".split()
ERROR_KEYS = {"message", "type", "param", "code"}
MOST_QUESTIONS = 8  # in a sound request
Json = dict[str, Any]
# A question of a request, and what it must get by label in the request's order, given what `/classify` says; None: a refusal.
Case = tuple[Json, Callable[[Json], list[float] | None]]


@dataclass
class DecisionResult:
    """What the requests got."""

    n: Counter[str] = field(default_factory=Counter)  # requests and answers by kind
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)  # the first of each kind of wrong

    def note(self, what: str, sent: object) -> None:
        """Count something wrong."""
        self.wrong[what] += 1
        self.examples.setdefault(what, repr(sent)[:1500])


# Questions


def said(question: Json, name: str, labels: list[str]) -> Callable[[Json], list[float] | None]:
    """What a question of a bundle must get: its probabilities in that order, or a refusal where it abstains."""

    def expected(answer: Json) -> list[float] | None:
        one = answer["questions"][name] if "questions" in answer else answer
        return None if one["abstain"] else [one["probs"][label] for label in labels]

    return expected


def decided(rng: random.Random, bundle: Json) -> Case:
    """A question that the bundle decides."""
    found = bundle.get("questions") or [{"name": None, "kind": "choice", "labels": bundle["labels"]}]
    one = rng.choice(found)
    name, kind, labels = one["name"], one["kind"], list(one["labels"])
    asked: Json = {"type": "choice", "instructions": rng.choice(["Where to?", [{"type": "input_text", "text": "Where to?"}]])}
    alone = sum(sorted(other["labels"]) == sorted(labels) for other in found if other["kind"] != "tags") == 1
    if kind == "tags":
        tag = rng.choice(labels)
        return asked | {"type": "predicate", "name": f"{name}/{tag}"}, said(asked, name, [tag])
    if kind == "yesno" and rng.random() < 0.5:
        return asked | {"type": "predicate", "name": name}, said(asked, name, ["yes"])
    if kind == "yesno" or not alone or (name is not None and rng.random() < 0.5):
        asked["name"] = name
    elif rng.random() < 0.5:
        asked["name"] = rng.choice(["my question", "q1", "名"])
    if kind == "degree" and rng.random() < 0.6:
        labels = labels if rng.random() < 0.5 else labels[::-1]
        return asked | {"type": "score", "levels": [{"label": label} for label in labels]}, said(asked, name, labels)
    rng.shuffle(labels)
    values = [label == "yes" for label in labels] if kind == "yesno" and rng.random() < 0.5 else labels
    return asked | {"choices": [{"value": value, "description": "..."} for value in values]}, said(asked, name, labels)


def foreign(rng: random.Random, bundle: Json) -> Case:
    """A question that the bundle does not decide."""
    labels = rng.choice(bundle.get("questions") or [bundle])["labels"]
    several = bundle.get("questions") or []
    asked: Json = {"instructions": "Is it so?"}
    forms: list[Json] = [
        {"type": "predicate"},
        {"type": "predicate", "name": "weather"},
        {"type": "predicate", "name": f"{rng.choice(WORDS)}/{rng.choice(WORDS)}"},
        {"type": "choice", "choices": [{"value": value} for value in [*labels, "sideways"]]},
        {"type": "choice", "choices": [{"value": f"{labels[0]}?"}, {"value": "other"}]},
        {"type": "score", "levels": [{"label": label} for label in [*labels, "more"]]},
    ]
    if len(several) > 1:
        forms += [{"type": "choice", "choices": [{"value": True}, {"value": False}]}]
        one, other = rng.sample(several, 2)
        if sorted(one["labels"]) != sorted(other["labels"]) and len(other["labels"]) > 1:
            forms += [{"type": "choice", "name": one["name"], "choices": [{"value": label} for label in other["labels"]]}]
    return asked | rng.choice(forms), lambda answer: None


def a_text(rng: random.Random) -> tuple[str | list[Json], str]:
    """(an input, the text that the bundle reads of it)."""
    text = " ".join(rng.choices(WORDS, k=rng.randint(0, 12)))
    way = rng.random()
    if way < 0.5:
        return text, text
    system = {"role": "system", "content": "Be brief."}
    if way < 0.8:
        return [system, {"role": "user", "content": text}], text
    return [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}, system], text


def sound_request(rng: random.Random, bundle: Json) -> tuple[Json, str, list[Case]]:
    """(a request, the text it is about, its questions with what they must get)."""
    given, text = a_text(rng)
    cases = [rng.choice([decided, decided, foreign])(rng, bundle) for _ in range(rng.randint(1, MOST_QUESTIONS))]
    return {"model": "gpt-6-luna", "input": given, "questions": [asked for asked, _ in cases]}, text, cases


# Replies


def unknown_fields(value: BaseModel) -> list[str]:
    """The fields that the types do not name, at any depth."""
    found = list(value.model_extra or {})
    for one in dict(value).values():
        for inner in one if isinstance(one, list) else [one]:
            found += unknown_fields(inner) if isinstance(inner, BaseModel) else []
    return found


def check_reply(result: DecisionResult, body: bytes, sent: object) -> Decision | None:
    """The reply as openai's own types have it; None if they refuse it."""
    try:
        decision = Decision.model_validate_json(body, strict=True)
    except ValidationError as error:
        result.note("a reply that openai's types refuse", (sent, body, str(error)))
        return None
    if more := unknown_fields(decision):
        result.note(f"fields that openai's types do not know: {more}", (sent, body))
    return decision


def check_error(result: DecisionResult, status: int, body: bytes, sent: object) -> None:
    """Check that an error has that API's form."""
    try:
        error = json.loads(body)["error"]
        fine = set(error) == ERROR_KEYS and isinstance(error["message"], str) and isinstance(error["type"], str)
    except (ValueError, KeyError, TypeError):
        fine = False
    if not fine:
        result.note("an error that is not that API's", (sent, body))
    if status >= 500 and status not in REFUSALS:
        result.note(f"status {status}", (sent, body))


def check_answers(result: DecisionResult, decision: Decision, cases: list[Case], answer: Json, sent: object) -> None:
    """Check the answers to sound questions. Args: answer, what `/classify` says of the text."""
    if len(decision.answers) != len(cases) or decision.usage.output_tokens or not decision.usage.input_tokens:
        result.note("another number of answers, or a wrong usage", (sent, decision))
        return
    for (asked, expected), found in zip(cases, decision.answers, strict=True):
        probs = expected(answer)
        result.n[f"answers: {found.type}"] += 1
        if found.name != asked.get("name"):
            result.note("an answer with another name", (sent, found))
        if (probs is None) != (found.type == "refusal"):
            result.note("an answer in place of a refusal" if probs is None else "a refusal in place of an answer", (asked, found))
        elif probs is not None and not is_right(asked, found, probs):
            result.note("an answer that is not the bundle's", (asked, found, probs))


def is_right(asked: Json, found: Any, probs: list[float]) -> bool:
    """Whether an answer has these probabilities, and what follows from them."""
    if found.type != asked["type"]:
        return False
    if found.type == "predicate":
        return found.probability == probs[0]
    rows = [(row.value, row.probability) for row in found.probabilities]
    if found.type == "choice":
        values = [one["value"] for one in asked["choices"]]
        best = values[probs.index(max(probs))]
        return rows == list(zip(values, probs, strict=True)) and found.confidence == max(probs) and found.choice == best
    named = [row.label for row in found.probabilities] == [level["label"] for level in asked["levels"]]
    mean = sum(place * prob for place, prob in enumerate(probs))
    return named and rows == list(enumerate(probs)) and abs(found.score - mean) < 1e-9 and found.confidence == max(probs)


# Asking


class Asker:
    """One connection that is kept."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def __enter__(self) -> Asker:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """(status, body) of a reply."""
        self._connection.request("POST", path, body)
        reply = self._connection.getresponse()
        return reply.status, reply.read()


def fuzz_decisions(port: int, bundle: Json, n_cases: int, seed: int = 1) -> DecisionResult:
    """Send so many requests. Args: bundle, an entry of `GET /bundles`."""
    rng, result, place = random.Random(seed), DecisionResult(), f"/bundles/{bundle['bundle']}"
    base_url = f"http://127.0.0.1:{port}{place}/v1"
    with openai.OpenAI(api_key="any", base_url=base_url, max_retries=0) as client, Asker(port) as asker:
        for case in range(n_cases):
            value, text, cases = sound_request(rng, bundle)
            if case % 2:
                for _ in range(rng.randint(1, 3)):
                    value = changed(value, rng)  # type: ignore[assignment]
                status, body = asker.post(f"{place}/v1/decisions", encoded(value, escaped=True)[:900_000])
                result.n["requests: changed"] += 1
                result.statuses[status] += 1
                check_reply(result, body, value) if status == 200 else check_error(result, status, body, value)
                continue
            status, body = asker.post(f"{place}/v1/decisions", json.dumps(value).encode())
            result.statuses[status] += 1
            result.n["requests: sound"] += 1
            if status != 200:
                result.note(f"a sound request got {status}", (value, body))
                continue
            decision = check_reply(result, body, value)
            answer = json.loads(asker.post(f"{place}/classify", json.dumps({"text": text}).encode())[1])["answer"]
            if decision is not None:
                check_answers(result, decision, cases, answer, value)
                if case % 20 == 0 and client.decisions.create(**value) != decision:
                    result.note("the client got another answer", value)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, server(options.bundle.resolve(), Path(folder) / "log") as (port, process):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/bundles")
        bundle = json.loads(connection.getresponse().read())["bundles"][0]
        result = fuzz_decisions(port, bundle, options.cases, options.seed)
        dead = process.poll() is not None
    print("; ".join(f"{what} {n}" for what, n in sorted(result.n.items())))
    print("statuses: " + ", ".join(f"{status}: {n}" for status, n in sorted(result.statuses.items())))
    print(f"wrong: {result.wrong.total()}" + "; the server is dead" * dead)
    for what, n in result.wrong.items():
        print(f"\n{n} times {what}, such as {result.examples[what]}")
    return int(bool(result.wrong) or dead)


if __name__ == "__main__":
    sys.exit(main())
