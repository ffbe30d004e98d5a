from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref

import pytest
from support.tiny_bundle import write_bundle

from potstill.contract.errors import UserError
from potstill.serve.http.hosting.job import Expired, Job
from potstill.serve.http.hosting.open_bundle import HostedBundle, Reading
from potstill.serve.http.hosting.workers import HEADROOM, Overloaded, Workers

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    """A bundle whose texts take some milliseconds, so that a queue can form."""
    return HostedBundle.open(write_bundle(tmp_path_factory.mktemp("slow") / "bundle", slow=2500))


def job(hosted, n=1, timeout_s=60.0, text="rise"):
    now = time.monotonic()
    return Job(hosted, [text] * n, None, start_s=now, deadline_s=now + timeout_s)


def run(scenario, n_workers=1):
    """What a scenario with running workers returns."""

    async def body():
        workers = Workers(n_workers)
        workers.start()
        try:
            return await scenario(workers)
        finally:
            await asyncio.to_thread(workers.close)

    return asyncio.run(body())


def test_answers_are_those_of_the_classifier(slow):
    async def scenario(workers):
        jobs = [job(slow, 3) for _ in range(4)]
        await asyncio.gather(*(workers.submit(one) for one in jobs))
        return [worked.answer for one in jobs for worked in one.results()]

    assert run(scenario, 2) == slow.classifier.classify(["rise"] * 12)


def test_the_earlier_deadline_goes_first(slow):
    order = []

    async def scenario(workers):
        first = workers.submit(job(slow, 4))  # keeps the worker busy
        later, sooner = job(slow, timeout_s=50), job(slow, timeout_s=20)
        for name, one in (("later", later), ("sooner", sooner)):
            workers.submit(one).add_done_callback(lambda _, name=name: order.append(name))
        await asyncio.gather(first, later.future, sooner.future)

    run(scenario)
    assert order == ["sooner", "later"]


def test_what_cannot_be_done_in_time_is_refused_at_once(slow):
    async def scenario(workers):
        futures = []
        with pytest.raises(Overloaded) as refused:
            for _ in range(10_000):
                futures.append(workers.submit(job(slow, timeout_s=0.5)))
        assert futures, "not even the first was accepted"
        assert refused.value.wait_s + refused.value.work_s > HEADROOM * 0.5 * 0.99
        await asyncio.gather(*futures, return_exceptions=True)

    run(scenario)


def test_a_job_that_would_delay_an_accepted_one_beyond_its_deadline_is_refused(slow):
    async def scenario(workers):
        estimate_s = workers.pace * sum(job(slow).costs)
        tight = workers.submit(job(slow, 8, timeout_s=8 * estimate_s / 0.79))
        with pytest.raises(Overloaded):
            workers.submit(job(slow, 7, timeout_s=7.5 * estimate_s / 0.79))
        await asyncio.gather(tight, return_exceptions=True)

    run(scenario)


def test_an_estimate_that_is_too_high_is_corrected_by_the_next_jobs(slow):
    async def scenario(workers):
        workers.pace = 40.0
        n_answered = 0
        for _ in range(60):
            one = job(slow, timeout_s=30)
            one.costs, one.units = [2.0], 2.0  # seconds, where milliseconds are the truth: 80 at this pace
            await workers.submit(one)
            n_answered += 1
        return n_answered, workers.pace

    n_answered, pace = run(scenario)
    assert n_answered == 60 and pace < 10


def test_a_job_whose_time_ran_out_in_the_queue_expires_without_work(slow):
    async def scenario(workers):
        workers.submit(job(slow, 8))
        late = job(slow, timeout_s=30)
        future = workers.submit(late)
        late.deadline_s = time.monotonic()  # as if the jobs before it had taken long
        with pytest.raises(Expired):
            await future
        return late.results()

    assert run(scenario) == []


def test_a_dropped_job_is_not_worked_on(slow):
    async def scenario(workers):
        first = workers.submit(job(slow, 2))
        gone = job(slow, 50)
        workers.submit(gone)
        workers.drop(gone)
        await first
        await workers.submit(job(slow))
        assert workers.wait_s() == 0.0
        return len(gone.results())

    assert run(scenario) <= 1


def test_when_all_jobs_are_done_no_work_is_left_on_record(slow):
    async def scenario(workers):
        await asyncio.gather(*(workers.submit(job(slow, n)) for n in (1, 2, 3)))
        await asyncio.sleep(0.05)
        short = job(slow)
        short.costs, short.units, workers.pace = [0.001], 0.001, 1.0
        return workers.wait_s(), workers.answer_at_once(short, alone=True)

    assert run(scenario, 2) == (0.0, True)  # nobody waits, and nobody is at work


def test_a_cheap_job_is_answered_at_once_and_an_expensive_one_is_not(slow, tmp_path):
    cheap = HostedBundle.open(write_bundle(tmp_path / "cheap"))

    async def scenario(workers):
        workers.pace = 1.0
        one = job(cheap)
        one.costs, one.units = [1e-5], 1e-5
        assert workers.answer_at_once(one) and one.results()[0].n_tokens == 3
        costly = job(slow)
        costly.costs, costly.units = [0.01], 0.01
        assert not workers.answer_at_once(costly)
        workers.pace = 40.0  # even at this pace and with a queue: handing it over would only cost more
        running = [workers.submit(job(slow)) for _ in range(3)]
        assert workers.answer_at_once(one)
        await asyncio.gather(*running)

    run(scenario)


def test_an_error_reaches_the_request(tmp_path):
    pairs = HostedBundle.open(write_bundle(tmp_path / "pairs", target=True))
    now = time.monotonic()

    async def scenario(workers):
        with pytest.raises(UserError, match="a target has 1001 characters"):
            await workers.submit(Job(pairs, ["a", "b"], ["x", "y" * 1001], start_s=now, deadline_s=now + 60))
        await workers.submit(Job(pairs, ["a"], ["x"], start_s=now, deadline_s=now + 60))

    run(scenario)


def test_the_only_client_is_answered_at_once_unless_that_takes_long_or_a_worker_is_busy(slow):
    async def scenario(workers):
        costly = job(slow)
        costly.costs, costly.units = [0.01], 0.01
        assert not workers.answer_at_once(costly) and workers.answer_at_once(costly, alone=True)
        costly.costs, costly.units = [1.0], 1.0
        assert not workers.answer_at_once(costly, alone=True)
        running = workers.submit(job(slow, 8))
        cheap = job(slow)
        cheap.costs, cheap.units = [0.01], 0.01
        assert not workers.answer_at_once(cheap, alone=True)
        await running

    run(scenario)


def test_the_worker_that_was_busy_last_is_woken_first(slow):
    names = []

    class Noting(Job):
        def work(self, index):
            names.append(threading.current_thread().name)
            return super().work(index)

    async def scenario(workers):
        await asyncio.sleep(0.1)  # all threads wait
        for _ in range(6):
            now = time.monotonic()
            await workers.submit(Noting(slow, ["rise"], None, start_s=now, deadline_s=now + 60))
            await asyncio.sleep(0.02)  # until it waits again

    run(scenario, 3)
    assert len(names) == 6 and len(set(names)) == 1


def costing(hosted, cost_s, n=1, timeout_s=60.0):
    """A job that is estimated at so many seconds a text."""
    one = job(hosted, n, timeout_s)
    one.costs, one.units = [cost_s] * n, cost_s * n
    return one


def test_a_large_job_leaves_room_for_small_ones_that_come_later(slow):
    order = []

    async def scenario(workers):
        workers.pace = 1.0
        jobs = [
            ("large", costing(slow, 0.02, 20, 1.0)),
            ("small", costing(slow, 0.02, 1, 1.0)),
            ("small", costing(slow, 0.02, 1, 1.0)),
        ]
        futures = []
        for name, one in jobs:
            futures.append(workers.submit(one))
            futures[-1].add_done_callback(lambda _, name=name: order.append(name))
        with pytest.raises(Overloaded):
            workers.submit(costing(slow, 0.02, 20, 1.0))  # a second large one would be late
        await asyncio.gather(*futures)

    run(scenario)
    assert order == ["small", "small", "large"]


def test_what_cannot_be_met_even_alone_is_refused_except_for_rare_probes(slow):
    async def scenario(workers):
        workers.pace = 1.0
        n_refused = 0
        for _ in range(20):
            hopeless = costing(slow, 0.005, 1000, 1.0)  # 5 s of work
            try:
                future = workers.submit(hopeless)
            except Overloaded:
                n_refused += 1
                continue
            with pytest.raises(Expired):  # the probe, once its first text shows that the estimate is about right
                await future
            assert len(hopeless.results()) < 500
        return n_refused

    assert run(scenario) >= 18


def test_a_text_of_invisible_characters_is_priced_as_what_it_costs(slow):
    words, invisible = "price rise fall stay " * 10_000, "\u200b\u2060" * 50_000
    odd = "\u0b01\u0b3c" * 50_000  # marks of a script
    (usual_s, is_usual), (odd_s, odd_is_usual) = slow.price(words), slow.price(odd)
    assert is_usual and usual_s == slow.price(words[:2000])[0]
    assert not odd_is_usual and odd_s - usual_s >= slow.cost.per_char_s * len(odd) / 2
    assert slow.price(invisible)[0] > usual_s
    assert slow.price(words, Reading(whole=True)) == (2 * usual_s, False)


def test_a_waiting_worker_keeps_no_bundle(tmp_path):
    """An old version of a bundle would stay in memory until the next request."""
    hosted = [HostedBundle.open(write_bundle(tmp_path / "bundle"))]

    async def scenario(workers):
        await workers.submit(job(hosted[0]))
        kept = weakref.ref(hosted.pop())
        for _ in range(200):
            gc.collect()
            if kept() is None:
                return True
            await asyncio.sleep(0.01)
        return False

    assert run(scenario)
