from __future__ import annotations

import threading

import pytest

from potstill.contract.errors import UserError
from potstill.serve.runtime.beside import Beside


def test_the_work_goes_on_while_its_caller_does_and_its_result_is_there_as_often_as_asked():
    release = threading.Event()
    started = threading.Event()

    def work() -> str:
        started.set()
        assert release.wait(10)
        return "done"

    beside = Beside(work)
    assert started.wait(10)
    release.set()
    assert (beside.result(), beside.result()) == ("done", "done")


@pytest.mark.parametrize("error", [UserError("one line"), KeyError("a bug"), SystemExit(3)], ids=repr)
def test_what_the_work_raises_is_raised_where_the_result_is_asked_for(error):
    def work() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        Beside(work).result()
    assert caught.value is error
