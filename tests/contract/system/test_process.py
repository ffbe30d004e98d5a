"""The memory of a process, and the environment in which a child process finds our packages."""

import os
import resource
import subprocess
import sys

from potstill.contract.system.child_process import environment
from potstill.contract.system.memory import max_rss_bytes, own_bytes, peak_resident_bytes, resident_bytes

MIB = 2**20


TOUCHED = """
import os
from potstill.contract.system.memory import peak_resident_bytes, resident_bytes
before = resident_bytes()
block = bytearray(os.urandom(1)) * (64 << 20)
held = resident_bytes() - before
del block
print(held, peak_resident_bytes() - before)
"""
MAPPED = """
import mmap, os, sys
from potstill.contract.system.memory import own_bytes, resident_bytes
before = own_bytes(os.getpid())
with open(sys.argv[1], "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
    sum(mapped[:: mmap.PAGESIZE])  # every page is in RAM now
    print(resident_bytes(os.getpid()), own_bytes(os.getpid()) - before)
block = bytearray(os.urandom(1)) * (64 << 20)
print(own_bytes(os.getpid()) - before)
"""


def printed(program, *arguments):
    """The numbers that a fresh process prints: in this one, earlier tests may have left free memory that is used again."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment(), timeout=60)
    return list(map(int, done.stdout.split()))


def test_memory_that_is_touched_counts_and_the_peak_stays_when_it_is_freed():
    held, peak = printed(TOUCHED)
    assert held >= 60 * MIB and peak >= 60 * MIB


def test_a_small_child_of_a_large_process_has_a_peak_of_its_own():
    block = bytearray(os.urandom(1)) * (128 * MIB)
    program = "from potstill.contract.system.memory import peak_resident_bytes; print(peak_resident_bytes())"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment(), timeout=60
    )
    assert MIB < int(done.stdout) < len(block)


def test_another_process_is_named_by_its_id():
    assert resident_bytes(os.getpid()) >= MIB


def test_a_process_holds_what_it_has_written_and_not_what_it_has_mapped_of_a_file(tmp_path):
    (tmp_path / "file").write_bytes(os.urandom(MIB) * 64)
    resident, mapped, written = printed(MAPPED, tmp_path / "file")
    assert resident > 64 * MIB and mapped < 16 * MIB
    assert 60 * MIB < written < (64 + 16) * MIB


def test_what_a_process_holds_is_unknown_where_the_system_does_not_say(tmp_path):
    assert own_bytes(os.getpid(), tmp_path) is None
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "status").write_text("Name:\tx\nVmRSS:\t  100 kB\n")  # of a kernel before 4.5
    assert own_bytes(7, tmp_path) is None


def test_without_a_proc_file_system_the_peak_is_the_one_that_getrusage_reports(tmp_path):
    least = max_rss_bytes(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, sys.platform)
    assert resident_bytes(proc=tmp_path) >= least
    assert peak_resident_bytes(tmp_path) >= least


def test_getrusage_reports_bytes_on_macos_and_kib_elsewhere():
    assert max_rss_bytes(5, "darwin") == 5
    assert max_rss_bytes(5, "linux") == max_rss_bytes(5, "freebsd14") == 5 * 1024


def test_a_child_in_another_folder_finds_the_packages_of_this_process(repository, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "more"))
    found = environment()
    program = "import potstill, sys; print(potstill.__file__); print(sys.path)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=found, capture_output=True, text=True, check=True, timeout=60
    )
    file, path = done.stdout.splitlines()
    assert file == str(repository / "potstill" / "__init__.py")
    assert str(tmp_path / "more") in path


def test_without_a_path_there_is_ours_alone(repository, monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert environment()["PYTHONPATH"] == str(repository)
