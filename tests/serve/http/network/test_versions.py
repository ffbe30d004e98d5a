"""The version that a server names is that of the files that answer: beside a writer, under SIGHUP, after a process died."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time

import onnx
import pytest
from support.serving import ServerProcess, wait_until
from support.tiny_bundle import write_bundle

from potstill.contract.bundle import read_files, sums_digest, write_sums
from potstill.contract.errors import FormatError
from potstill.contract.files import atomic
from potstill.serve.http.hosting.open_bundle import DIGEST_CHARS
from potstill.serve.http.hosting.version_memory import pack, unpack
from potstill.serve.runtime.classifier import Classifier

pytestmark = pytest.mark.slow

N_VERSIONS = 4


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    """Folders of several versions, and for each version the probabilities that it gives."""
    root = tmp_path_factory.mktemp("versions")
    folders = [write_bundle(root / f"v{seed}", seed=seed) for seed in range(N_VERSIONS)]
    answers = {}
    for folder in folders:
        with Classifier.open(folder) as classifier:
            answers[sums_digest(folder)[:DIGEST_CHARS]] = classifier.classify(["rise"])[0].probs
    return folders, answers


def put(source, target):
    """Exchange the version in a folder, as `potstill export` does."""
    with atomic.folder(target) as staging:
        shutil.copytree(source, staging, dirs_exist_ok=True)


@pytest.mark.parametrize("options", [(), ("--processes", "2")], ids=["one process", "two processes"])
def test_every_answer_is_that_of_the_version_that_it_names(tmp_path, versions, options):
    folders, answers = versions
    bundle = tmp_path / "bundle"
    put(folders[0], bundle)
    over = threading.Event()
    with ServerProcess(bundle, *options) as server:

        def write():
            n = 0
            while not over.wait(0.004 * (n % 7)):
                n += 1
                put(folders[n % N_VERSIONS], bundle)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            seen = set()
            for n in range(200):
                if n % 4 == 0:
                    server.process.send_signal(signal.SIGHUP)
                body = server.classify(text="rise")[1]
                seen.add(body["version"])
                assert body["answer"]["probs"] == answers[body["version"]]
        finally:
            over.set()
            writer.join()
        assert len(seen) > 1

        def settled():  # a version that came while another was being read is taken at the next signal
            server.process.send_signal(signal.SIGHUP)
            time.sleep(0.1)
            return {server.classify(text="rise")[1]["version"] for _ in range(6)} == {sums_digest(bundle)[:DIGEST_CHARS]}

        wait_until(settled, "the last version")
        assert server.stop() == 0


def test_a_process_that_replaces_a_dead_one_answers_with_the_version_of_the_others(tmp_path, versions):
    folders, _ = versions
    bundle = tmp_path / "bundle"
    put(folders[0], bundle)
    with ServerProcess(bundle, "--processes", "2") as server:
        first = server.classify(text="rise")[1]["version"]
        put(folders[1], bundle)  # and no signal
        child = int(subprocess.check_output(["pgrep", "-P", str(server.process.pid)]).split()[0])
        os.kill(child, signal.SIGKILL)
        assert b"a new process replaces it" in server.process.stderr.readline()
        time.sleep(4)  # until it answers too
        found = {server.classify(text="rise")[1]["version"] for _ in range(20)}
        assert found == {first}
        server.process.send_signal(signal.SIGHUP)
        new = sums_digest(bundle)[:DIGEST_CHARS]
        wait_until(lambda: {server.classify(text="rise")[1]["version"] for _ in range(8)} == {new}, "the new version everywhere")
        assert server.stop() == 0


def test_a_broken_version_is_refused_once_for_all_processes(tmp_path, versions):
    bundle = tmp_path / "bundle"
    put(versions[0][0], bundle)
    with ServerProcess(bundle, "--processes", "2") as server:
        version = server.classify(text="rise")[1]["version"]
        (bundle / "README.md").write_text("another version")
        write_sums(bundle)
        (bundle / "model.onnx").write_bytes(b"no model")
        server.process.send_signal(signal.SIGHUP)
        assert b"model.onnx: was changed" in server.process.stderr.readline()
        write_sums(bundle)
        server.process.send_signal(signal.SIGHUP)
        line = server.process.stderr.readline().decode()
        assert line.startswith(f"tiny: keeps version {version}: ") and "model.onnx" in line
        assert {server.classify(text="rise")[1]["version"] for _ in range(8)} == {version}
        wait_until(lambda: server.count("potstill_reloads_total", bundle="tiny", outcome="refused") == 2, "two refusals")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0 and server.process.stderr.read() == b""


def no_pattern(bundle):
    """A tokenizer whose regular expression is none."""
    tokenizer = json.loads((bundle / "tokenizer.json").read_bytes())
    tokenizer["pre_tokenizer"] = {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": False}
    (bundle / "tokenizer.json").write_text(json.dumps(tokenizer))


def no_vector(bundle):
    """A graph that loads, and then lacks the vector of nearly every token."""
    model = onnx.load(bundle / "model.onnx")
    table = model.graph.initializer[0]
    table.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(table)[:1], table.name))
    onnx.save(model, bundle / "model.onnx")


@pytest.mark.parametrize("spoil", [no_pattern, no_vector])
def test_whatever_a_new_version_does_the_old_one_answers_and_the_next_bundle_is_renewed(tmp_path, versions, spoil):
    folders, _ = versions
    first, second = tmp_path / "first", tmp_path / "second"
    put(folders[0], first)
    put(folders[1], second)
    with ServerProcess(f"first={first}", f"second={second}") as server:
        spoil(first)
        write_sums(first)
        put(folders[2], second)
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: server.count("potstill_reloads_total", bundle="first", outcome="refused") == 1, "a refusal")
        assert server.process.stderr.readline().startswith(b"first: keeps version ")
        assert b"second: version " in server.process.stderr.readline()
        assert server.classify(text="rise")[0] == 200


def test_the_files_that_are_parsed_are_those_that_were_hashed(tmp_path, versions):
    folders, answers = versions
    bundle, over = tmp_path / "bundle", threading.Event()
    put(folders[0], bundle)

    def write():
        n = 0
        while not over.is_set():
            n += 1
            source = folders[n % N_VERSIONS]
            for name in ("model.onnx", "golden.jsonl", "SHA256SUMS"):  # in place, the worst that a writer can do
                (bundle / name).write_bytes((source / name).read_bytes())

    writer = threading.Thread(target=write)
    writer.start()
    n_read = 0
    try:
        end_s = time.monotonic() + 3
        while time.monotonic() < end_s:
            try:
                files = read_files(bundle)
            except FormatError:
                continue  # caught in the middle
            n_read += 1
            with Classifier.from_files(files) as classifier:
                assert classifier.classify(["rise"])[0].probs == answers[files.digest[:DIGEST_CHARS]]
    finally:
        over.set()
        writer.join()
    assert n_read


def test_files_go_through_shared_memory_unchanged(versions):
    files = read_files(versions[0][0])
    descriptor = pack(files)
    try:
        assert unpack(descriptor) == files == unpack(descriptor)
    finally:
        os.close(descriptor)
