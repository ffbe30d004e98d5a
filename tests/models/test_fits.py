"""Which teachers fit into a machine's memory."""

import pytest
from click.testing import CliRunner

from potstill.commands.models import command
from potstill.models import fits, gguf
from potstill.models.catalog import load_catalog
from potstill.models.memory import memory_needed

GB = 10**9


@pytest.fixture(autouse=True)
def no_fetched_models(monkeypatch, tmp_path):
    monkeypatch.setenv("POTSTILL_MODELS", str(tmp_path))


def names(gigabytes):
    return {fit.entry.name for fit in fits.fitting(gigabytes * GB)}


def test_the_system_keeps_a_fifth_and_at_least_a_gigabyte():
    assert [fits.room_bytes(n * GB) / GB for n in (0, 1, 4, 16)] == [0, 0, 3, 12.8]


@pytest.mark.slow
def test_what_a_teacher_that_is_here_needs_is_computed_from_its_header(smollm2):
    fit = fits.need(load_catalog()["smollm2-135m-instruct"])
    header = gguf.read_header(smollm2)
    assert fit.here and not fit.estimated
    assert fit.bytes == memory_needed(header, fits.N_TOKENS, n_sequences=fits.N_PATHS + 1).total_bytes > header.weights_bytes


def test_what_another_needs_is_estimated_from_its_size_and_what_a_token_takes_in_its_cache():
    known, unknown = (fits.need(load_catalog()[name]) for name in ("qwen3.5-4b", "smollm3-3b"))
    assert known.estimated and not known.here
    assert known.bytes == 2_741_000_000 + 33_600 * 4096 + fits.WORK_BYTES
    assert unknown.bytes == 1_915_000_000 * 5 // 4 + fits.WORK_BYTES


@pytest.mark.parametrize(
    ("gigabytes", "newly"),
    [
        (4, "qwen3.5-2b"),
        (4, "smollm3-3b"),
        (8, "qwen3.5-4b"),
        (8, "qwen3.5-9b"),
        (16, "ministral-3-14b-instruct"),
        (32, "gemma-4-26b-a4b-it"),
    ],
)
def test_every_size_of_machine_has_teachers_that_a_smaller_one_has_not(gigabytes, newly):
    assert newly in names(gigabytes) and newly not in names(gigabytes / 2)
    assert names(gigabytes / 2) < names(gigabytes)


def test_a_teacher_that_another_replaced_is_not_advised():
    replaced = {name for name, entry in load_catalog().items() if entry.newer}
    assert replaced and not replaced & names(1000)


def test_the_command_shows_what_fits_and_says_what_was_assumed():
    done = CliRunner().invoke(command, ["list", "--fits", "4"])
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert rows[0] == ["name", "here", "MB", "needs MB", "context", "licence", "where"]
    shown = {row[0]: row for row in rows[1:]}
    assert shown["qwen3.5-2b"][3] == "~1648" and "qwen3.5-4b" not in shown
    assert done.stderr == (
        "of 4.0 GB of memory, 3.0 GB are for a teacher; the system keeps 20%, at least 1 GB. "
        "Needed with 8 live paths and 4096 tokens in the cache; ~: estimated from the size of the file\n"
    )


def test_without_a_number_the_command_takes_this_machine_s_memory(monkeypatch):
    monkeypatch.setattr("potstill.commands.models.memory_bytes", lambda: 3 * GB)
    assert CliRunner().invoke(command, ["list", "--fits"]).stderr.startswith("of 3.0 GB of memory, 2.0 GB are for a teacher;")
