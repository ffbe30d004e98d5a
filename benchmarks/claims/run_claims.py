"""Run the programs behind docs/results.md one after the other, and write one page of what they measured on this machine.

    python benchmarks/claims/run_claims.py [--data FOLDER] [--only NAME ...] [--list] [--minutes N] [--network]
                                           [--input NAME=PATH ...] [--out build/results] [--again]

`claims.toml` beside this file is the table. Without options everything runs that the repository alone can measure. What passed is
not run again until its program or the package changes, so a call that was stopped can be repeated. --again runs it anyway; programs
that go on with what they find still do, so remove build/results/work to begin from nothing. A program that fails, or is not through
in its time, is reported, and the next one begins. The page is index.md; NAME.json holds all that a claim printed, NAME.log what it
wrote to stderr. Exits with 1 if a program failed or was stopped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from claim_page import write_page
from claim_runs import PASSED, Run, finished, is_current, measure
from claim_table import ROOT, Claim, Given, Job, Table, job, lacking, read_table

from potstill.contract.errors import UserError


def main() -> int:
    """Run what the command line asks for; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the public sets, a folder each")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="claims to run; what they need runs before them")
    parser.add_argument("--list", action="store_true", help="print the claims and what each needs, and run nothing")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="the longest a claim may run, if the table says more")
    parser.add_argument("--network", action="store_true", help="also run what asks a package index or an archive")
    parser.add_argument("--input", action="append", default=[], metavar="NAME=PATH", help="something that the table names")
    parser.add_argument("--out", type=Path, default=ROOT / "build/results", help="folder of the results")
    parser.add_argument("--again", action="store_true", help="run also what passed already")
    parser.add_argument("--table", type=Path, help=argparse.SUPPRESS)  # another table: for tests
    options = parser.parse_args()
    table = read_table(options.table) if options.table else read_table()
    given = given_by(options, table)
    chosen = chosen_of(table, options.only)
    if options.list:
        for name, claim in table.claims.items():
            print(f"{name:20} {claim.minutes:4.0f} min at most  {lacking(claim, table, given) or 'can run'}")
        return 0
    try:
        failed = run_all(table, chosen, given, options)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        return 130
    finally:
        print(write_results(table, given), flush=True)
    return 1 if failed else 0


def given_by(options: argparse.Namespace, table: Table) -> Given:
    """What the options give. Raises SystemExit: a folder or an input that is not there, or has no such name."""
    if options.data and not options.data.is_dir():
        raise SystemExit(f"--data {options.data}: there is no such folder")
    inputs = {}
    for text in options.input:
        name, equals, path = text.partition("=")
        if not equals or name not in table.inputs:
            raise SystemExit(f"--input {text}: expected NAME=PATH, NAME one of {', '.join(table.inputs)}")
        if not Path(path).exists():
            raise SystemExit(f"--input {text}: there is no {path}")
        inputs[name] = Path(path).resolve()
    return Given(options.out.resolve(), options.data and options.data.resolve(), inputs, options.network)


def chosen_of(table: Table, only: list[str]) -> list[str]:
    """The names to run, with those whose results they read, in the table's order. Raises SystemExit: a name is not in the table."""
    for name in only:
        if name not in table.claims:
            raise SystemExit(f"--only {name}: is not in the table: {', '.join(table.claims)}")
    wanted = set(only) or set(table.claims)
    for name in reversed(table.claims):
        if name in wanted and table.claims[name].after:
            wanted.add(table.claims[name].after)
    return [name for name in table.claims if name in wanted]


def run_all(table: Table, chosen: list[str], given: Given, options: argparse.Namespace) -> list[str]:
    """Run the chosen claims that can run and have not passed yet; write the page after each. Returns those that did not pass."""
    failed = []
    for name in chosen:
        claim = table.claims[name]
        if lacking(claim, table, given) or claim.after in failed:
            continue
        ready = job(name, table, given)
        if not options.again and is_current(finished(given.results / f"{name}.json"), ready):
            print(f"{name}: passed already", flush=True)
            continue
        minutes = min(claim.minutes, options.minutes)
        print(f"{name}: {claim.title}, at most {minutes:.3g} min ...", flush=True)
        run = measure(ready, given.results, minutes)
        print(f"{name}: {run.state} after {run.seconds:.0f} s" + (f"\n{run.error}" if run.error else ""), flush=True)
        if run.state != PASSED:
            failed.append(name)
        write_results(table, given)
    return failed


def write_results(table: Table, given: Given) -> str:
    """Write the page of everything that was ever measured into this folder, and of what was not. Returns a line that says so."""
    runs, old, not_run = [], set(), []
    for name, claim in table.claims.items():
        run, ready = finished(given.results / f"{name}.json"), job(name, table, given)
        if run is None:
            not_run.append((claim.title, reason(claim, table, given), ready.commands))
            continue
        runs.append(run)
        if is_old(run, ready, not lacking(claim, table, given)):
            old.add(name)
    not_run += list(by_hand(table))
    write_page(given.results / "index.md", runs, old, not_run)
    return f"wrote {given.results / 'index.md'}: {len(runs)} measured, {len(not_run)} not run"


def is_old(run: Run, ready: Job, can_run: bool) -> bool:
    """Whether package, program or commands changed since; commands with something that is not given this time do not count."""
    return run.state == PASSED and not is_current(run, ready if can_run else replace(ready, commands=run.commands))


def reason(claim: Claim, table: Table, given: Given) -> str:
    """Why there is no result of a claim."""
    why = lacking(claim, table, given)
    if why or not claim.after:
        return why or "was not chosen (--only), or the call ended before"
    before = finished(given.results / f"{claim.after}.json")
    if before is not None and before.state != PASSED:
        return f"reads what {table.claims[claim.after].title!r} makes, which did not pass"
    return "was not chosen (--only), or the call ended before"


def by_hand(table: Table) -> Iterator[tuple[str, str, list[str]]]:
    """The programs that nothing here runs."""
    for program, (why, command) in table.by_hand.items():
        yield f"`{program}`", why, [command]


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"potstill: {error}")
