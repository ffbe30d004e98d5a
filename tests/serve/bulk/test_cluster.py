"""A real Ray cluster on this machine with two actors: nothing is lost and nothing is answered twice, whatever is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pyarrow
import pytest
from pyarrow import parquet
from support.network.watch import can_watch, watch
from support.tiny_bundle import write_bundle

from potstill.serve.bulk import units
from potstill.serve.bulk.run import predict_to_file
from potstill.serve.bulk.units import Store, pieces, units_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("POTSTILL_CLUSTER"), reason="starts Ray, which needs free cores: make test-cluster"),
]
TEXTS = [f"the price will {word} {'e' * (n % 23)} {n}" for n in range(20_000) for word in ("rise", "fall", "stay")]
# Runs the console in a program of its own, with units so small that there are many.
DRIVER = """
import sys
from potstill.serve.bulk import units
units.UNIT_BYTES, units.UNIT_ROWS = 200_000, 3_000
from potstill.commands.main import main
if __name__ == "__main__":
    main()
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("cluster") / "bundle")


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """A folder with a skewed partition: one file holds nearly everything. One of its texts is odd in every way that JSON allows."""
    folder = tmp_path_factory.mktemp("texts") / "texts"
    (folder / "day=2").mkdir(parents=True)
    rows = [{"id": f"row{n}", "text": text} for n, text in enumerate(TEXTS)]
    rows[30_000]["text"] = "\0 \ud83d rise " + "z" * 300_000  # longer than a unit
    write_lines(folder / "a.jsonl", rows[:55_000])
    write_lines(folder / "day=2/b.jsonl", rows[55_000:55_010])
    parquet.write_table(pyarrow.Table.from_pylist(rows[55_010:]), folder / "day=2/c.parquet", row_group_size=4_000)
    (folder / "_SUCCESS").write_text("")
    return folder


@pytest.fixture(scope="module")
def expected(bundle, texts, tmp_path_factory):
    """The table that one machine's run gives."""
    out = tmp_path_factory.mktemp("plain") / "plain"
    predict_to_file(bundle, texts, out)
    return parquet.read_table(out)


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def command(*arguments):
    return [sys.executable, "-c", DRIVER, "predict", *map(str, arguments), "--engine", "ray", "--actors", "2"]


def begin(*arguments, **more):
    """A driver of a cluster of its own, in a group of processes of its own."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.Popen(
        command(*arguments),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **more,
    )


def finish(process):
    """(exit status, what was said apart from how far it was)."""
    _, err = process.communicate(timeout=170)
    return process.returncode, "".join(line for line in err.splitlines(keepends=True) if not line.startswith("answered: "))


@pytest.fixture(autouse=True)
def found_here(monkeypatch, repository):
    monkeypatch.setenv("PYTHONPATH", str(repository))


def parts(out):
    return sorted(out.glob("part-*.parquet"))


def wait_for_parts(out, n, process):
    end = time.monotonic() + 120
    while len(parts(out)) < n:
        assert process.poll() is None and time.monotonic() < end, process.communicate()[1]
        time.sleep(0.01)


def actors():
    """The processes of Ray that hold a bundle."""
    found = subprocess.run(["pgrep", "-f", "ray::MapWorker"], capture_output=True, text=True).stdout
    return [int(pid) for pid in found.split()]


def test_units_hold_every_row_once_and_in_order_however_small_they_are(texts, monkeypatch):
    for n_bytes, n_rows in ((77_777, 999), (1 << 20, 20_000)):
        monkeypatch.setattr(units, "UNIT_BYTES", n_bytes)
        monkeypatch.setattr(units, "UNIT_ROWS", n_rows)
        found = units_of(str(texts))
        assert [unit.number for unit in found] == list(range(len(found)))
        ids = [row.id for unit in found for piece in pieces(unit) for row in units.text_pieces.rows(piece)]
        assert ids == [f"row{n}" for n in range(len(TEXTS))]


def test_two_actors_give_the_table_of_one_machine_and_other_tools_read_it(bundle, texts, expected, tmp_path):
    import duckdb
    import polars

    out = tmp_path / "out"
    code, err = finish(begin(bundle, texts, "--out", out))
    assert (code, err) == (0, "")
    assert len(parts(out)) > 20
    assert parquet.read_table(parts(out)).equals(expected)
    (found,) = duckdb.sql(f"select count(*), count(distinct id), sum(\"probs.up\") from '{out}/*.parquet'").fetchall()
    assert found[:2] == (len(TEXTS), len(TEXTS))
    assert polars.scan_parquet(f"{out}/*.parquet").select(polars.col("probs.up").sum()).collect().item() == pytest.approx(found[2])


def test_an_actor_that_is_killed_costs_no_text_and_doubles_none(bundle, texts, expected, tmp_path):
    out = tmp_path / "out"
    process = begin(bundle, texts, "--out", out)
    wait_for_parts(out, 2, process)
    there = actors()
    assert there
    os.kill(there[0], signal.SIGKILL)
    code, err = finish(process)
    assert code == 0, err
    assert parquet.read_table(parts(out)).equals(expected)


def test_a_driver_that_is_killed_goes_on_with_the_parts_that_are_missing(bundle, texts, expected, tmp_path):
    out = tmp_path / "out"
    process = begin(bundle, texts, "--out", out)
    wait_for_parts(out, 3, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    before = {part: part.stat().st_mtime_ns for part in parts(out)}
    code, err = finish(begin(bundle, texts, "--out", out))
    assert code == 0 and "went on after" in err
    assert {part: part.stat().st_mtime_ns for part in before} == before
    assert parquet.read_table(parts(out)).equals(expected)
    other = write_bundle(tmp_path / "other", seed=3)
    code, err = finish(begin(other, texts, "--out", out))
    assert (code, err) == (
        1,
        f"potstill: {out}: was begun with another bundle, other options or other texts; remove it, or name another place\n",
    )


def test_a_malformed_row_is_named_or_written_aside(bundle, tmp_path):
    rows = [json.dumps({"id": f"row{n}", "text": text}) for n, text in enumerate(TEXTS[:12_000])]
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.jsonl").write_text("\n".join([*rows[:9_000], '{"text": 5}', *rows[9_000:]]))
    code, err = finish(begin(bundle, tmp_path / "in", "--out", tmp_path / "out"))
    file = tmp_path / "in/a.jsonl"
    assert (code, err) == (1, f"potstill: {file}: line 9001: text: expected `str | null`, got `int`\n")
    code, err = finish(begin(bundle, tmp_path / "in", "--out", tmp_path / "out", "--bad-rows", tmp_path / "bad"))
    assert code == 0 and "1 further rows are malformed; they are in the folder of bad rows" in err
    ids = parquet.read_table(parts(tmp_path / "out")).column("id").to_pylist()
    assert ids == [f"row{n}" for n in range(12_000)]
    (bad,) = (tmp_path / "bad").iterdir()
    assert json.loads(bad.read_text())["place"] == "line 9001: text"


@pytest.mark.skipif(not can_watch(), reason="this system does not let us make a network namespace")
def test_nothing_leaves_the_machine(bundle, tmp_path, repository):
    write_lines(tmp_path / "a.jsonl", [{"text": text} for text in TEXTS[:20_000]])
    (tmp_path / "home").mkdir()
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path / "home"), "PYTHONPATH": str(repository)}
    seen = watch(command(bundle, tmp_path / "a.jsonl", "--out", tmp_path / "out"), env=environment, cwd=tmp_path)
    assert seen.code == 0, seen.err
    assert (seen.names, seen.n_strays) == ([], 0)
    assert len(parquet.read_table(parts(tmp_path / "out"))) == 20_000


def test_any_address_of_fsspec_is_a_place_for_texts_and_answers():
    store = Store("memory://answers/here")
    assert store.names() == {}
    store.write("part-00000.parquet", b"abc")
    assert store.names() == {"part-00000.parquet": 3}
    assert store.read("part-00000.parquet") == b"abc"
    Store("memory://texts").write("a.jsonl", b'{"text": "one"}\n{"text": "two"}\n')
    (unit,) = units_of("memory://texts")
    assert [row.text for piece in pieces(unit) for row in units.text_pieces.rows(piece)] == ["one", "two"]
