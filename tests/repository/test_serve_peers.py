from __future__ import annotations

import argparse
import os
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from serve_peers import PEERS, model_of
from support.serving import ROOT
from support.tiny_bundle import write_bundle

from potstill.contract.bundle import write_sums

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path):
    folder = write_bundle(tmp_path / "plain")
    (folder / "config.json").write_text('{"model_type": "bert"}')
    write_sums(folder)
    return folder


def run(*args):
    command = [sys.executable, "benchmarks/serve_peers.py", *map(str, args)]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": "."}, capture_output=True, text=True, timeout=120)


def test_a_server_is_measured_beside_the_loop_and_answers_as_the_student_does(folder, tmp_path):
    out = tmp_path / "out"
    done = run(folder, "--out", out, "--turns", 2, "--seconds", 0.2, "--only", "loop,potstill,fastapi-torch")
    assert done.returncode == 0, done.stderr
    assert "fastapi-torch is left out: it serves a checkpoint; give --checkpoint" in done.stderr
    rows = {
        row[1]: row[2:] for row in ([cell.strip() for cell in line.split("|")] for line in done.stdout.splitlines()) if len(row) > 2
    }
    assert set(rows) == {"server", "---", "loop", "potstill"}
    assert float(rows["loop"][0].split()[0]) > float(rows["potstill"][0].split()[0]) > 0
    assert rows["potstill"][3:5] == ["1.00", ""]
    assert (out / "peers.md").read_text() in done.stdout
    words = [one.text for one in ElementTree.parse(out / "peers.svg").iter("{http://www.w3.org/2000/svg}text")]
    assert words[1::2] == ["loop", "potstill"]


def test_peers_serve_another_bundle_of_the_student_where_one_is_named():
    options = argparse.Namespace(bundle="int8", peers_bundle="float", checkpoint="student")
    served = {peer.name: str(model_of(peer, options)) for peer in PEERS}
    assert served["potstill"] == "int8" and served["litserve"] == "float" and served["fastapi-torch"] == "student"
    options.peers_bundle = None
    assert {str(model_of(peer, options)) for peer in PEERS} == {"int8", "student"}


def test_a_peer_that_is_not_known_is_refused(folder, tmp_path):
    done = run(folder, "--out", tmp_path / "out", "--only", "loop,nginx")
    assert done.returncode == 1
    assert done.stderr.startswith("--only: there is no nginx; there are loop, potstill, ")
