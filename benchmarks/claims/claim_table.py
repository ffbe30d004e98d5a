"""The table of claims (`claims.toml`): what each needs, its commands with paths filled in, and the version that they measure."""

from __future__ import annotations

import hashlib
import shlex
import shutil
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parents[2]
TABLE = Path(__file__).with_name("claims.toml")
PACKAGE = ("potstill", "labeler", "trainer", "export", "serve", "models")
PROGRAMS = "benchmarks/"


class Claim(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A claim as the table has it; `claims.toml` says what each field means."""

    title: str
    commands: list[str]
    minutes: float  # the longest all its commands may take
    after: str = ""
    sets: list[str] = []
    inputs: list[str] = []
    tools: list[str] = []
    network: bool = False
    folder: str = ""

    @property
    def programs(self) -> list[str]:
        """Paths of the repository's programs that it runs, from the root."""
        words = [word for command in self.commands for word in shlex.split(command)[:2]]
        return sorted({word for word in words if word.startswith(PROGRAMS)})


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All claims by name, in the order in which they run, and the programs that none of them runs."""

    inputs: dict[str, str]  # name: what it is and where it comes from
    by_hand: dict[str, tuple[str, str]]  # program: why it is not run here, and its command
    parts: dict[str, str]  # file: what it is a part of
    claims: dict[str, Claim]


@dataclass(frozen=True)
class Given:
    """What the caller gave and allowed."""

    results: Path
    data: Path | None = None  # folder of the public sets
    inputs: dict[str, Path] = field(default_factory=dict)
    network: bool = False


def read_table(path: Path = TABLE) -> Table:
    """The table of a file.

    Raises:
        SystemExit: it is not TOML, has an unknown or a missing key, or names a claim or an input that is not there.
    """
    try:
        table = msgspec.toml.decode(path.read_bytes(), type=Table)
    except msgspec.MsgspecError as error:
        raise SystemExit(f"{path}: {error}") from error
    earlier: set[str] = set()
    for name, claim in table.claims.items():
        if claim.after and claim.after not in earlier:
            raise SystemExit(f"{path}: claims.{name}.after: no claim above it is named {claim.after!r}")
        for given in claim.inputs:
            if given not in table.inputs:
                raise SystemExit(f"{path}: claims.{name}.inputs: {given!r} is not under [inputs]: {', '.join(table.inputs)}")
        earlier.add(name)
    return table


def lacking(claim: Claim, table: Table, given: Given) -> str:
    """Why a claim cannot be measured with what is given, and what to do; empty if it can."""
    if claim.sets and given.data is None:
        return f"needs public sets ({', '.join(claim.sets)}): --data FOLDER, or make bench DATA=FOLDER"
    missing = [name for name in claim.sets if given.data is not None and not (given.data / name).is_dir()]
    if missing:
        return f"{given.data} has no folder {', '.join(missing)}"
    for name in claim.inputs:
        if name not in given.inputs:
            return f"needs --input {name}=PATH: {table.inputs[name]}"
    for tool in claim.tools:
        if shutil.which(tool) is None:
            return f"needs the program {tool}, which is not installed"
    if claim.network and not given.network:
        return "asks a package index or an archive: --network allows it"
    return ""


@dataclass(frozen=True)
class Job:
    """A claim that is ready to run."""

    name: str
    claim: Claim
    commands: list[str]  # with every path in its place
    folder: Path  # {out}
    digest: str


def job(name: str, table: Table, given: Given) -> Job:
    """A claim with its commands filled in; what is not given stands in them in capitals."""
    claim = table.claims[name]
    folder = _folder(name, claim, given)
    places = {"out": folder, "data": given.data or "DATA", **{key: given.inputs.get(key, key.upper()) for key in table.inputs}}
    if claim.after:
        places[claim.after] = _folder(claim.after, table.claims[claim.after], given)
    quoted = {key: shlex.quote(str(path)) for key, path in places.items()}
    return Job(name, claim, [command.format_map(quoted) for command in claim.commands], folder, digest(claim))


def _folder(name: str, claim: Claim, given: Given) -> Path:
    """The folder of a claim: another one for each version, since programs go on with what they find."""
    return given.results / "work" / f"{claim.folder or name}-{digest(claim)}"


def digest(claim: Claim) -> str:
    """The version that a claim measures: 12 hex digits of the package, and of its programs with the files beside them."""
    files = {path for program in claim.programs for path in [*(ROOT / program).parent.iterdir(), *(ROOT / PROGRAMS).glob("*.py")]}
    found = hashlib.sha256(package_digest().encode())
    for path in sorted(path for path in files if path.is_file()):
        found.update(_line_of(path))
    return found.hexdigest()[:12]


@cache
def package_digest() -> str:
    """SHA-256 over the package's files, as they were when this was first asked."""
    files = sorted(path for folder in PACKAGE for path in (ROOT / folder).rglob("*") if path.suffix != ".pyc" and path.is_file())
    return hashlib.sha256(b"".join(map(_line_of, files))).hexdigest()


def _line_of(path: Path) -> bytes:
    """A line with the file's name and its SHA-256."""
    return f"{path.relative_to(ROOT)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode()
