"""Whether a running server keeps to its own description: schemathesis asks every operation of it, rightly and wrongly.

    potstill serve out/bundle
    python benchmarks/api_fuzz.py http://127.0.0.1:8080 [--cases 2000] [--seed 1]

Prints a Markdown table of operations, cases and statuses, then what was found. Exit 1 if a reply was a 5xx that is no refusal, or
contradicts the description: a status, a header or a body that it does not have, a right request refused, a wrong one accepted. The
server must ask for no key, and should have nothing else to do.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import hypothesis
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.core.errors import LoaderError
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.schemas import APIOperation, BaseSchema

# A request of the right shape may still be refused: 413 where a text would be cut against the wish, 429 and 504 for its deadline,
# and 400 where the shape of a tensor does not count its strings, which no schema can say.
EXPECTED = ["2xx", "400", "404", "413", "429", "503", "504"]
REFUSED = ["400", "401", "403", "404", "405", "408", "413", "422", "429"]  # a wrong body may also be too large to look at
NO_FAULT = ["2xx", "4xx", "504"]  # 504: a deadline of microseconds that ran out
CHECKS = {
    "positive_data_acceptance": {"expected-statuses": EXPECTED},
    "negative_data_rejection": {"expected-statuses": REFUSED},
    "not_a_server_error": {"expected-statuses": NO_FAULT},
}
MAX_TURNS = 20  # over all operations; where there is little to vary, hypothesis runs out of new requests


@dataclass
class Asked:
    """One operation, as it was asked in one way."""

    operation: str
    mode: GenerationMode
    statuses: Counter[int] = field(default_factory=Counter)
    problem: str | None = None  # the first one found, at its smallest

    @property
    def n_cases(self) -> int:
        """Requests that were sent."""
        return sum(self.statuses.values())


def fuzz(url: str, n_cases: int, seed: int = 1) -> list[Asked]:
    """Ask every operation of the server at a URL, rightly and, where it takes a body, wrongly; each about as often.

    Args:
        url: of the server, without a path.
        n_cases: requests to send in all, at least. Operations with little to vary get fewer, and the others more.
        seed: of the requests.
    Raises:
        LoaderError: if there is no description to be had there.
    """
    described = schemathesis.openapi.from_url(f"{url}/openapi.json", config=schemathesis.Config.from_dict({"checks": CHECKS}))
    ways = [(operation, Asked(operation.label, mode)) for operation, mode in _ways(described)]
    for turn in range(MAX_TURNS):
        left = n_cases - sum(asked.n_cases for _, asked in ways)
        if left <= 0:
            break
        for index, (operation, asked) in enumerate(ways):
            if asked.problem is None:
                _ask(operation, asked, -(-left // len(ways)), seed + turn * len(ways) + index)
    return [asked for _, asked in ways]


def _ways(described: BaseSchema) -> Iterator[tuple[APIOperation, GenerationMode]]:
    """Each operation with each way to ask it; raises InvalidSchema."""
    for found in described.get_all_operations():
        operation = found.ok()
        yield operation, GenerationMode.POSITIVE
        if operation.body:  # else there is nothing that could be wrong
            yield operation, GenerationMode.NEGATIVE


def _ask(operation: APIOperation, asked: Asked, n_cases: int, seed: int) -> None:
    """Send so many requests at most, and write down what came of them."""

    @hypothesis.seed(seed)
    @given(case=operation.as_strategy(generation_mode=asked.mode))
    @settings(max_examples=n_cases, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def ask(case: Case) -> None:
        """One request."""
        if asked.mode == GenerationMode.POSITIVE and isinstance(case.body, dict) and {"texts", "targets"} <= case.body.keys():
            n_texts = len(case.body["texts"])  # no schema can say that there are as many targets
            case.body = {**case.body, "targets": (case.body["targets"] * n_texts)[:n_texts]}
        response = case.call()
        asked.statuses[response.status_code] += 1
        case.validate_response(response)

    try:
        ask()
    except (Failure, FailureGroup) as failure:
        asked.problem = str(failure)


def table(rows: list[Asked]) -> str:
    """Markdown: a row for each operation and way."""
    lines = ["| operation | asked | cases | statuses |", "| --- | --- | ---: | --- |"]
    for row in rows:
        statuses = ", ".join(f"{status}: {n}" for status, n in sorted(row.statuses.items()))
        way = "rightly" if row.mode == GenerationMode.POSITIVE else "wrongly"
        lines.append(f"| `{row.operation}` | {way} | {row.n_cases} | {statuses} |")
    return "\n".join(lines)


def main() -> None:
    """Ask, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="of the server, like http://127.0.0.1:8080")
    parser.add_argument("--cases", type=int, default=2000, help="requests, at least")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    try:
        rows = fuzz(options.url.rstrip("/"), options.cases, options.seed)
    except LoaderError as error:
        sys.exit(f"{options.url}: {str(error).splitlines()[0]}; start a server there with: potstill serve BUNDLE")
    print(table(rows))
    problems = [row for row in rows if row.problem is not None]
    print(f"\n{len(rows)} ways to ask, {sum(row.n_cases for row in rows)} cases, {len(problems)} with a problem")
    for row in problems:
        print(f"\n## {row.operation}\n\n{row.problem}")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
