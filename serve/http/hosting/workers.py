"""Worker threads with admission control: a job is accepted only if the estimate says that it meets its deadline.

A new job is accepted only if it, and every job behind it in the queue, would still be done in time; so overload leads to early
refusals, which cost almost nothing, and not to late answers. Each worker runs one text at a time and takes the next one at once:
no text waits for a batch to fill.

A job's place in the queue is the later of two times: a tenth of its time limit after its start, and as long after it as its own
work would take of the part of all workers that is given away. So what is urgent comes first, and what is large comes later within
its limit: a client that asks a lot at a time cannot hold up one that asks a little, and uses what the others leave.

A job that costs less than handing it to another thread is answered by the event loop's thread. If there is only one client, every
short job is, as nobody else has to wait for it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from bisect import insort

from potstill.serve.http.hosting.job import Expired, Job

HEADROOM = 0.6  # share of the remaining time that the estimate may fill; the rest is for its errors and for the network
ON_THE_SPOT_S = 0.0003  # of an idle core: jobs up to this cost stay in the event loop's thread; handing over costs half of it
ALONE_S = 0.01  # at the current pace: the same if there is only one client
URGENCY = 0.1  # share of a job's time limit; see above
PROBE_EVERY_S = 5.0  # between two jobs that are accepted against the estimate, to test it
PACE_RATE = 0.05  # smoothing of the pace, per text
PACE_RANGE = (0.02, 50.0)  # the pace of one text is clipped to this range


class Overloaded(Exception):
    """The deadline of a job cannot be met."""

    def __init__(self, wait_s: float, work_s: float) -> None:
        """Args: estimated seconds until the work would begin; estimated seconds of the work itself."""
        self.wait_s, self.work_s = wait_s, work_s
        super().__init__(f"{wait_s:.3f} s to wait, {work_s:.3f} s of work")


class Workers:
    """Threads that classify texts. Public methods are called from the event loop's thread."""

    def __init__(self, n_workers: int) -> None:
        """Start nothing yet. Args: n_workers, at least 1."""
        self.n_workers = n_workers
        self.pace = 1.0  # measured seconds of a text over its estimated cost on an idle core
        self._lock = threading.Lock()
        # A locked lock for each waiting worker. The last one to wait is woken first: the caches of its core are warm, and the
        # event loop keeps its own core.
        self._idle: list[threading.Lock] = []
        self._queue: list[Job] = []  # by rank; each job has texts that no worker has taken
        self._queued_units = 0.0  # seconds of an idle core, of the texts in the queue
        self._running_units = 0.0  # and of those being answered
        self._n_running = 0
        self._closing = False
        self._next_probe_s = 0.0  # by `time.monotonic`
        self._threads: list[threading.Thread] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Start the threads; call it in the event loop."""
        self._loop = asyncio.get_running_loop()
        self._threads = [threading.Thread(target=self._run, name=f"answer-{i}", daemon=True) for i in range(self.n_workers)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Answer what is queued, then end the threads."""
        with self._lock:
            self._closing = True
        self._wake(self.n_workers)
        for thread in self._threads:
            thread.join()

    def wait_s(self) -> float:
        """Estimated seconds until a new text's work would begin."""
        return self.pace * (self._queued_units + self._running_units) / self.n_workers

    def answer_at_once(self, job: Job, *, alone: bool = False) -> bool:
        """Answer a cheap job in this thread; returns False if it is not cheap, or would be late. Raises what the work raises.

        "Cheap" does not depend on the pace: threads that compete for Python's lock are slow, and would get more work for it.

        Args:
            job: not submitted.
            alone: its client is the only one.
        """
        start, takes_s = time.monotonic(), self.pace * job.units
        is_cheap = job.units <= ON_THE_SPOT_S
        is_alone_and_short = alone and not self._n_running and not self._queue and takes_s <= ALONE_S
        if not (is_cheap or is_alone_and_short) or start + takes_s > job.deadline_s:
            return False
        for index in range(len(job.texts)):
            job.answers[index] = job.work(index)
        job.n_left = 0
        if all(job.usual):
            self._learn_pace(time.monotonic() - start, job.units)
        return True

    def submit(self, job: Job) -> asyncio.Future[None]:
        """Queue a job. Its future is done when all its texts are; it raises Expired if the deadline passes before a worker begins.

        Raises:
            Overloaded: if its deadline, or that of a job accepted earlier, would be missed.
        """
        loop = self._loop or asyncio.get_running_loop()
        with self._lock:
            self._check(job, time.monotonic())
            job.rank_s = self._rank_s(job)
            job.future = loop.create_future()
            job.waits = bool(self._queue) or self._n_running + len(job.texts) > self.n_workers
            insort(self._queue, job, key=_rank)
            self._queued_units += job.units
        self._wake(len(job.texts))
        return job.future

    def drop(self, job: Job) -> None:
        """Remove a job whose client has disconnected; texts being classified are finished, and their answers discarded."""
        with self._lock:
            self._withdraw(job)

    def _wake(self, n: int) -> None:
        """Wake up to n waiting workers; busy ones look for more work themselves."""
        with self._lock:
            woken = [self._idle.pop() for _ in range(min(n, len(self._idle)))]
        for lock in woken:
            lock.release()

    def _check(self, job: Job, now: float) -> None:
        """Check that all deadlines would be met; raises Overloaded."""
        ahead, rank_s = self._running_units, self._rank_s(job)
        if not self._queue or self._queue[-1].rank_s <= rank_s:  # the common case: all jobs are alike
            ahead += self._queued_units
            behind: list[Job] = []
        else:
            at = next(i for i, other in enumerate(self._queue) if other.rank_s > rank_s)
            ahead += sum(other.units for other in self._queue[:at])
            behind = self._queue[at:]
        share = self.pace / self.n_workers
        longest = self.pace * max(job.costs)
        # The last text starts at the latest when all other work has been divided evenly among the workers.
        takes = share * (ahead + job.units) + longest * (1 - 1 / self.n_workers)
        if takes > HEADROOM * (job.deadline_s - now):
            self._probe(job, now, Overloaded(share * ahead, takes - share * ahead))
        total = ahead + job.units
        for other in behind:
            total += other.units
            if now + share * total > other.deadline_s:
                raise Overloaded(share * ahead, takes - share * ahead)

    def _probe(self, job: Job, now: float, refusal: Overloaded) -> None:
        """Accept a job against the estimate, now and then, if no other one can be late: an estimate that is too high would refuse
        everything for ever. Raises the refusal."""
        possible = PACE_RANGE[0] * job.units / self.n_workers <= job.deadline_s - now
        if self._queue or self._n_running or now < self._next_probe_s or not possible:
            raise refusal
        self._next_probe_s = now + PROBE_EVERY_S
        job.is_probe = True

    def _rank_s(self, job: Job) -> float:
        """The job's place in the queue, by `time.monotonic`."""
        limit_s = job.deadline_s - job.start_s
        return job.start_s + min(limit_s, max(URGENCY * limit_s, self.pace * job.units / self.n_workers / HEADROOM))

    def _run(self) -> None:
        """The loop of a worker thread."""
        wake = threading.Lock()
        wake.acquire()
        while True:
            taken = self._take(wake)
            if taken is None:
                return
            job, index = taken
            start = time.monotonic()
            try:
                job.answers[index] = job.work(index)
            except BaseException as error:  # noqa: BLE001 whatever it is, the request's own task raises it
                job.failure = error
            self._done(job, index, time.monotonic() - start)
            del taken, job  # while it waits for the next one, this thread must not keep an old version of a bundle

    def _take(self, wake: threading.Lock) -> tuple[Job, int] | None:
        """Wait for the next text; None when the workers close. Args: wake, the worker's own lock, locked."""
        while True:
            with self._lock:
                taken = self._next()
                if taken is not None:
                    return taken
                if self._closing:
                    return None
                self._idle.append(wake)
            wake.acquire()

    def _next(self) -> tuple[Job, int] | None:
        """Take the next text that is still in time, None if there is none; the caller holds the lock."""
        while self._queue:
            job, now = self._queue[0], time.monotonic()
            index = job.n_taken
            cost = job.costs[index]
            if now + (0.0 if index or job.is_probe else self.pace * cost) > job.deadline_s:
                self._withdraw(job)
                job.failure = Expired()
                self._tell(job)
                continue
            if index == 0:
                job.queue_s = now - job.start_s
            job.n_taken += 1
            job.units -= cost
            self._queued_units -= cost
            self._running_units += cost
            self._n_running += 1
            if job.n_taken == len(job.texts):
                del self._queue[0]
                if not self._queue:
                    self._queued_units = 0.0  # what is left is rounding
            return job, index
        return None

    def _done(self, job: Job, index: int, seconds: float) -> None:
        """Record that a text is answered."""
        cost = job.costs[index]
        with self._lock:
            if job.usual[index]:
                self._learn_pace(seconds, cost)
            if job.is_probe:
                self._judge_probe(job, seconds / cost)
            self._n_running -= 1
            self._running_units = self._running_units - cost if self._n_running else 0.0  # else rounding would add up
            job.n_left -= 1
            if job.failure is not None:
                self._withdraw(job)
            finished = job.n_left == 0 or job.failure is not None
        if finished:
            self._tell(job)

    def _judge_probe(self, job: Job, pace: float) -> None:
        """Believe what a probe shows, and end it if the rest of it cannot be done in time; the caller holds the lock."""
        self.pace = max(PACE_RANGE[0], min(self.pace, pace))
        if self.pace * job.units / self.n_workers > job.deadline_s - time.monotonic():
            job.failure = job.failure or Expired()

    def _withdraw(self, job: Job) -> None:
        """Remove the rest of a job from the queue, if it is there; the caller holds the lock."""
        if job.n_taken < len(job.texts) and job in self._queue:
            self._queue.remove(job)
            self._queued_units -= job.units

    def _tell(self, job: Job) -> None:
        """Tell the event loop that a job is done."""
        if self._loop is not None and job.future is not None:
            self._loop.call_soon_threadsafe(_settle, job)

    def _learn_pace(self, seconds: float, cost: float) -> None:
        """Update the pace with the measured time of one or more texts, of those that are like most: odd ones would spoil it."""
        low, high = PACE_RANGE
        self.pace += PACE_RATE * (min(high, max(low, seconds / cost)) - self.pace)


def _rank(job: Job) -> float:
    """The sort key of the queue."""
    return job.rank_s


def _settle(job: Job) -> None:
    """Complete the future of a job, in the event loop."""
    if job.future is None or job.future.done():
        return
    if job.failure is not None:
        job.future.set_exception(job.failure)
    else:
        job.future.set_result(None)
