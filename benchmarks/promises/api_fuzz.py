"""Fuzz a running server against its own OpenAPI description, with schemathesis: valid and invalid requests to every operation.

    potstill serve out/bundle
    python benchmarks/promises/api_fuzz.py http://127.0.0.1:8080 [--cases 2000] [--seed 1]

Prints a Markdown table of operations, cases and statuses, then the problems. Exits with 1 on a server error, or on a reply that
contradicts the description: an undocumented status, header or body, a valid request refused, an invalid one accepted. The server
must not require a key, and should be otherwise idle.
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

# A valid request may still be refused: 413 if a text would be cut although the client forbids it, 429 and 504 for its deadline,
# and 400 if a tensor's shape does not match its number of strings, which a schema cannot express.
EXPECTED = ["2xx", "400", "404", "413", "429", "503", "504"]
REFUSED = ["400", "401", "403", "404", "405", "408", "413", "422", "429"]  # an invalid body may also be too large to read
NO_FAULT = ["2xx", "4xx", "504"]  # 504: a deadline of microseconds has passed
CHECKS = {
    "positive_data_acceptance": {"expected-statuses": EXPECTED},
    "negative_data_rejection": {"expected-statuses": REFUSED},
    "not_a_server_error": {"expected-statuses": NO_FAULT},
}
MAX_TURNS = 20  # over all operations; for small operations hypothesis runs out of new requests


@dataclass
class FuzzResult:
    """The results of one operation in one mode."""

    operation: str
    mode: GenerationMode
    statuses: Counter[int] = field(default_factory=Counter)
    problem: str | None = None  # the first one, minimized

    @property
    def n_cases(self) -> int:
        """Requests that were sent."""
        return sum(self.statuses.values())


def fuzz(url: str, n_cases: int, seed: int = 1) -> list[FuzzResult]:
    """Send valid requests to every operation of a server, and invalid ones to those that take a body, evenly spread.

    Args:
        url: of the server, without a path.
        n_cases: smallest total number of requests. Small operations get fewer, the others more.
        seed: of the requests.
    Raises:
        LoaderError: if the server has no OpenAPI description.
    """
    described = schemathesis.openapi.from_url(f"{url}/openapi.json", config=schemathesis.Config.from_dict({"checks": CHECKS}))
    ways = [(operation, FuzzResult(operation.label, mode)) for operation, mode in _operations(described)]
    for turn in range(MAX_TURNS):
        left = n_cases - sum(result.n_cases for _, result in ways)
        if left <= 0:
            break
        for index, (operation, result) in enumerate(ways):
            if result.problem is None:
                _send(operation, result, -(-left // len(ways)), seed + turn * len(ways) + index)
    return [result for _, result in ways]


def _operations(described: BaseSchema) -> Iterator[tuple[APIOperation, GenerationMode]]:
    """Each operation with each mode; raises InvalidSchema."""
    for found in described.get_all_operations():
        operation = found.ok()
        yield operation, GenerationMode.POSITIVE
        if operation.body:  # without a body nothing can be invalid
            yield operation, GenerationMode.NEGATIVE


def _send(operation: APIOperation, result: FuzzResult, n_cases: int, seed: int) -> None:
    """Send at most n_cases requests and record the results."""

    @hypothesis.seed(seed)
    @given(case=operation.as_strategy(generation_mode=result.mode))
    @settings(max_examples=n_cases, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def ask(case: Case) -> None:
        """Send one request and check the reply."""
        if result.mode == GenerationMode.POSITIVE and isinstance(case.body, dict) and {"texts", "targets"} <= case.body.keys():
            n_texts = len(case.body["texts"])  # a schema cannot express that there are as many targets
            case.body = {**case.body, "targets": (case.body["targets"] * n_texts)[:n_texts]}
        response = case.call()
        result.statuses[response.status_code] += 1
        case.validate_response(response)

    try:
        ask()
    except (Failure, FailureGroup) as failure:
        result.problem = str(failure)


def table(rows: list[FuzzResult]) -> str:
    """Markdown: a row for each operation and mode."""
    lines = ["| operation | requests | cases | statuses |", "| --- | --- | ---: | --- |"]
    for row in rows:
        statuses = ", ".join(f"{status}: {n}" for status, n in sorted(row.statuses.items()))
        mode = "valid" if row.mode == GenerationMode.POSITIVE else "invalid"
        lines.append(f"| `{row.operation}` | {mode} | {row.n_cases} | {statuses} |")
    return "\n".join(lines)


def main() -> None:
    """Fuzz the server and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="URL of the server, such as http://127.0.0.1:8080")
    parser.add_argument("--cases", type=int, default=2000, help="smallest number of requests")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    try:
        rows = fuzz(options.url.rstrip("/"), options.cases, options.seed)
    except LoaderError as error:
        sys.exit(f"{options.url}: {str(error).splitlines()[0]}; start a server there with: potstill serve BUNDLE")
    print(table(rows))
    problems = [row for row in rows if row.problem is not None]
    print(f"\n{len(rows)} rows, {sum(row.n_cases for row in rows)} cases, {len(problems)} with a problem")
    for row in problems:
        print(f"\n## {row.operation}\n\n{row.problem}")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
