"""Worker threads, and the promise that stands before them: what is accepted keeps its deadline.

Waiting requests stand in the order of their deadlines. A new one is accepted only if its own work, and that of everybody
behind it, would still be done in time by the estimate; so overload is refused at the door, where it costs next to nothing,
and never as late answers. Each worker runs one text at a time and takes the next one at once: nothing waits for a batch to fill.

A request that is cheaper than handing it to another thread is answered on the spot; where there is a single client, whom nobody
could be kept waiting by, any short one is.
"""

from __future__ import annotations

import asyncio
import threading
import time
from bisect import insort

from potstill.serve.http.hosting.job import Expired, Job

HEADROOM = 0.6  # of the time that a request has left; the rest is for what nobody can estimate, and for the way here and back
ON_THE_SPOT_S = 0.0003  # of an idle core: up to here the thread that took a request in answers it; handing over costs half of it
ALONE_S = 0.02  # by the present pace: the same where there is no other client
PACE_RATE = 0.05  # how fast the pace follows what texts really take
PACE_RANGE = (0.02, 50.0)  # one text's pace counts as no less and no more


class Overloaded(Exception):
    """The request's deadline could not be kept."""

    def __init__(self, wait_s: float, work_s: float) -> None:
        """Args: estimated seconds until the work would begin; estimated seconds that it takes."""
        self.wait_s, self.work_s = wait_s, work_s
        super().__init__(f"{wait_s:.3f} s to wait, {work_s:.3f} s of work")


class Workers:
    """Threads that answer texts. All methods but the threads' own are called from the event loop's thread."""

    def __init__(self, n_workers: int) -> None:
        """Nothing runs yet."""
        self.n_workers = n_workers
        self.pace = 1.0  # seconds that a text takes here and now, over its cost alone on an idle core
        self._lock = threading.Lock()
        # A locked lock of each worker that waits. The last to wait is woken first: its core, caches and all, is the one that
        # was at work, and the event loop keeps its own.
        self._idle: list[threading.Lock] = []
        self._queue: list[Job] = []  # by deadline; every job in it has texts that nobody has taken
        self._queued_units = 0.0  # seconds of an idle core, of the texts in the queue
        self._running_units = 0.0  # and of those being answered
        self._n_running = 0
        self._closing = False
        self._threads: list[threading.Thread] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Start the threads; call it in the event loop."""
        self._loop = asyncio.get_running_loop()
        self._threads = [threading.Thread(target=self._run, name=f"answer-{i}", daemon=True) for i in range(self.n_workers)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Answer what is queued, and end the threads."""
        with self._lock:
            self._closing = True
        self._wake(self.n_workers)
        for thread in self._threads:
            thread.join()

    def wait_s(self) -> float:
        """Estimated seconds until a new text's work would begin."""
        return self.pace * (self._queued_units + self._running_units) / self.n_workers

    def n_queued(self) -> int:
        """Requests with texts that nobody has taken."""
        return len(self._queue)

    def answer_at_once(self, job: Job, *, alone: bool = False) -> bool:
        """Answer a cheap job on the spot; tells whether it did. Raises what the work raises.

        Whether it is cheap does not depend on the pace: threads that take turns at Python are slow, and for that would be given
        still more to do.

        Args:
            job: not submitted.
            alone: whether its client is the only one.
        """
        start, takes_s = time.monotonic(), self.pace * job.units
        is_cheap = job.units <= ON_THE_SPOT_S
        in_nobodys_way = alone and not self._n_running and not self._queue and takes_s <= ALONE_S
        if not (is_cheap or in_nobodys_way) or start + takes_s > job.deadline_s:
            return False
        for index in range(len(job.texts)):
            job.worked[index] = job.work(index)
        job.n_left = 0
        self._learn_pace(time.monotonic() - start, job.units)
        return True

    def submit(self, job: Job) -> asyncio.Future[None]:
        """Accept a job; the future is done when all its texts are, with Expired if its time ran out before it was begun.

        Raises:
            Overloaded: if its deadline, or one that was promised before, would not be kept.
        """
        loop = self._loop or asyncio.get_running_loop()
        with self._lock:
            self._check(job, time.monotonic())
            job.future = loop.create_future()
            job.waits = bool(self._queue) or self._n_running + len(job.texts) > self.n_workers
            insort(self._queue, job, key=_deadline)
            self._queued_units += job.units
        self._wake(len(job.texts))
        return job.future

    def drop(self, job: Job) -> None:
        """Do no more for a job whose client has gone; what is being answered is finished, and thrown away."""
        with self._lock:
            self._withdraw(job)

    def _wake(self, n: int) -> None:
        """Wake at most n of the workers that wait; those that are at work look for more by themselves."""
        with self._lock:
            woken = [self._idle.pop() for _ in range(min(n, len(self._idle)))]
        for lock in woken:
            lock.release()

    def _check(self, job: Job, now: float) -> None:
        """Raises Overloaded if a deadline would be missed."""
        ahead = self._running_units
        if not self._queue or self._queue[-1].deadline_s <= job.deadline_s:  # the common case: everybody allows the same time
            ahead += self._queued_units
            behind: list[Job] = []
        else:
            at = next(i for i, other in enumerate(self._queue) if other.deadline_s > job.deadline_s)
            ahead += sum(other.units for other in self._queue[:at])
            behind = self._queue[at:]
        if not self._queue and not self._n_running:
            # Nobody is in the way, so the estimate may be put to the test: one that was too high would else refuse for ever.
            if PACE_RANGE[0] * job.units > job.deadline_s - now:
                raise Overloaded(0.0, self.pace * job.units)
            job.is_probe = True
            return
        share = self.pace / self.n_workers
        longest = self.pace * max(job.costs)
        # The last text to be taken starts, at the latest, when all other work is shared out evenly.
        takes = share * (ahead + job.units) + longest * (1 - 1 / self.n_workers)
        if takes > HEADROOM * (job.deadline_s - now):
            raise Overloaded(share * ahead, takes - share * ahead)
        total = ahead + job.units
        for other in behind:
            total += other.units
            if now + share * total > other.deadline_s:
                raise Overloaded(share * ahead, takes - share * ahead)

    def _run(self) -> None:
        """A worker's life."""
        wake = threading.Lock()
        wake.acquire()
        while True:
            taken = self._take(wake)
            if taken is None:
                return
            job, index = taken
            start = time.monotonic()
            try:
                job.worked[index] = job.work(index)
            except BaseException as error:  # noqa: BLE001 whatever it is, the request's own task raises it
                job.failure = error
            self._done(job, index, time.monotonic() - start)

    def _take(self, wake: threading.Lock) -> tuple[Job, int] | None:
        """The next text, once there is one; None when the workers close. Args: wake, the worker's own, locked."""
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
        """The next text that is still in time, None if there is none; the lock is held."""
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
        """Note that a text is answered."""
        cost = job.costs[index]
        with self._lock:
            self._learn_pace(seconds, cost)
            self._n_running -= 1
            self._running_units = self._running_units - cost if self._n_running else 0.0  # else rounding would add up
            job.n_left -= 1
            if job.failure is not None:
                self._withdraw(job)
            finished = job.n_left == 0 or job.failure is not None
        if finished:
            self._tell(job)

    def _withdraw(self, job: Job) -> None:
        """Take the rest of a job out of the queue, if it is there; the lock is held."""
        if job.n_taken < len(job.texts) and job in self._queue:
            self._queue.remove(job)
            self._queued_units -= job.units

    def _tell(self, job: Job) -> None:
        """Let the event loop know that a job is over."""
        if self._loop is not None and job.future is not None:
            self._loop.call_soon_threadsafe(_settle, job)

    def _learn_pace(self, seconds: float, cost: float) -> None:
        """Follow what texts really take."""
        low, high = PACE_RANGE
        self.pace += PACE_RATE * (min(high, max(low, seconds / cost)) - self.pace)


def _deadline(job: Job) -> float:
    """What the queue is ordered by."""
    return job.deadline_s


def _settle(job: Job) -> None:
    """Wake the request's task, in the event loop."""
    if job.future is None or job.future.done():
        return
    if job.failure is not None:
        job.future.set_exception(job.failure)
    else:
        job.future.set_result(None)
