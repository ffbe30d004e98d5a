"""Denormal numbers are zero in a bundle's graph, and what they are in the program around it."""

import json
import subprocess
import sys

import numpy as np
import pytest
from support.tiny_bundle import write_bundle

from potstill.contract.system.child_process import environment
from potstill.serve.runtime.denormals import thread_left_as_it_was, with_denormals_as_zero

FIRST = """
import json, sys, threading
import numpy as np
from potstill import Classifier

small, found = np.array([1e-310]), []


def look():
    found.append(bool((small * 1.0)[0] == 0))


look()
with Classifier.open(sys.argv[1]) as classifier:
    look()
    classifier.classify(["rise"])
    classifier.logits(["fall"])
    look()
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
look()
print(json.dumps(found))
"""
SMALL = np.array([1e-310])


def is_zero(factor: float = 1.0) -> bool:
    """Whether this thread takes a denormal number as zero."""
    return bool((SMALL * factor)[0] == 0)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("denormals") / "bundle")


def test_a_call_takes_them_as_zero_and_leaves_the_thread_as_it_was():
    assert not is_zero()
    assert with_denormals_as_zero(is_zero, 1.0)
    assert not is_zero()
    assert with_denormals_as_zero(with_denormals_as_zero, is_zero) and not is_zero()
    with pytest.raises(ZeroDivisionError):
        with_denormals_as_zero(lambda: 1 / 0)
    assert not is_zero()


def test_a_classifier_changes_nothing_in_the_threads_that_open_use_and_close_it(bundle):
    """In a process of its own: onnxruntime changes the thread that opens the first session, and none later."""
    done = subprocess.run([sys.executable, "-c", FIRST, str(bundle)], capture_output=True, text=True, env=environment(), timeout=60)
    assert (json.loads(done.stdout), done.stderr) == ([False] * 5, "")


def test_a_block_undoes_what_a_library_sets_in_this_thread(bundle):
    with thread_left_as_it_was():
        pass
    assert not is_zero()
