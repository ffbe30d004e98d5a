"""An export that is killed or runs out of disk leaves the bundle that was there, whole."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.tiny_checkpoint import LOOSE, write_checkpoint

from potstill.contract.errors import UserError
from potstill.export.config import ExportConfig
from potstill.export.run import export_bundle
from potstill.serve.offline.verify import verify

pytestmark = pytest.mark.slow

N_KILLS = 4
# Everything is imported once; then for each line read, a child exports in two forms by turns until it is killed.
NURSERY = """
import os, sys
from pathlib import Path
from potstill.export.config import ExportConfig
from potstill.export.run import export_bundle
for _ in sys.stdin:
    pid = os.fork()
    if pid == 0:
        while True:
            for variant in ("float", "static_int8"):
                export_bundle(Path(sys.argv[1]), Path(sys.argv[2]), ExportConfig(1, 0, 1, variant, threads=1))
    print(pid, flush=True)
    os.waitpid(pid, 0)
    print("gone", flush=True)
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


def test_an_export_that_is_killed_at_any_moment_leaves_one_whole_bundle(checkpoint, tmp_path):
    bundle = export_bundle(checkpoint, tmp_path / "bundle", LOOSE).bundle
    command = [sys.executable, "-c", NURSERY, checkpoint, bundle]
    rng, root = random.Random(3), Path(__file__).parents[2]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root, env=environment) as nursery:
        for _ in range(N_KILLS):
            nursery.stdin.write("\n")
            nursery.stdin.flush()
            child = int(nursery.stdout.readline())
            time.sleep(rng.uniform(0.1, 1.5))
            os.kill(child, signal.SIGKILL)
            assert nursery.stdout.readline() == "gone\n"
            assert verify(bundle).problems == []
        nursery.stdin.close()
    export_bundle(checkpoint, bundle, LOOSE)  # what the killed ones left beside it is in nobody's way
    assert verify(bundle).problems == []


def test_a_full_disk_leaves_the_old_bundle_and_nothing_else(checkpoint, tmp_path):
    disk, made = tmp_path / "disk", export_bundle(checkpoint, tmp_path / "made", LOOSE)
    disk.mkdir()
    room = made.size_bytes * 3 // 2  # for one, and not for another beside it
    mount = ["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a small disk needs the rights of root")
    try:
        bundle = shutil.copytree(made.bundle, disk / "bundle")
        before = {path.name: path.read_bytes() for path in bundle.iterdir()}
        with pytest.raises(UserError, match=r"cannot be written \(No space left on device\); free some space or choose another"):
            export_bundle(checkpoint, bundle, ExportConfig(variant="float", threads=1))
        assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before
        assert [path.name for path in disk.iterdir()] == ["bundle"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)
