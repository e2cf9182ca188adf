"""Which sequences share the next step: queues and slots, and not one tensor."""

from __future__ import annotations

from saywell.engine.job import Job
from saywell.types import Sequence

_MANY = 4
"""Slots from which on one of them is worth keeping free: a fifth of the work at most."""


class Scheduler:
    """Gives `slots` slots to the sequences of the jobs it holds; at most `lookahead` to one job."""

    def __init__(self, slots: int, lookahead: int) -> None:
        self.slots = slots
        self.hold = False
        """Only jobs that have begun get slots."""
        self._lookahead = lookahead
        self._free = list(range(slots - 1, -1, -1))
        self._jobs: dict[str, Job] = {}
        self._running: dict[Sequence, Job] = {}

    def __bool__(self) -> bool:
        return bool(self._jobs)

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        # A copy, taken in one step: this is read from other threads while the engine's adds and removes.
        return sum(1 for job in self.jobs() if not job.running)

    def jobs(self) -> list[Job]:
        return list(self._jobs.values())

    def job(self, request_id: str) -> Job | None:
        return self._jobs.get(request_id)

    @property
    def begun(self) -> bool:
        """Whether a job is under way, between its first sequence and its last."""
        return any(job.begun for job in self._jobs.values())

    def resize(self, slots: int, lookahead: int) -> None:
        """Use fewer slots than there are, or all of them again. Who holds one keeps it to the end."""
        self.slots, self._lookahead = slots, lookahead

    def add(self, job: Job) -> None:
        self._jobs[job.request.id] = job

    def neediest(self) -> Job | None:
        """Who gets the next free slot: higher priority first, then who has not begun, so that nobody's first word waits
        behind a long text; then whose listener would be the first to hear nothing more; then who came first."""
        if not self._free:
            return None
        able = [
            job
            for job in self._jobs.values()
            if len(self._running) < self._limit(job)
            and job.running < self._lookahead
            and job.eager
            and (job.begun or not self.hold)
        ]
        # min() keeps the first of equals, and a dict keeps the order of arrival.
        return min(able, key=lambda job: (-job.request.priority, job.begun, job.heard_until), default=None)

    def _limit(self, job: Job) -> int:
        """Sequences beside which a job may start another: of many slots the last one is for those who have not begun,
        and of the slots that pressure has taken away they may have one."""
        if not job.begun:
            return self.slots + 1
        return self.slots - 1 if self.slots >= _MANY else self.slots

    def place(self, job: Job) -> Sequence:
        """The job's next sequence, in a free slot. Raises what preparing its text raises; the slot stays free then."""
        sequence = job.take(self._free[-1])
        self._free.pop()
        self._running[sequence] = job
        return sequence

    def batch(self) -> list[Sequence]:
        """The running sequences, by slot."""
        return sorted(self._running, key=lambda sequence: sequence.slot)

    def finish(self, sequence: Sequence) -> None:
        """Take a sequence's slot back."""
        if self._running.pop(sequence, None) is not None:
            self._free.append(sequence.slot)

    def remove(self, job: Job) -> list[Sequence]:
        """Forget a job; its sequences that still hold slots, which are now free."""
        self._jobs.pop(job.request.id, None)
        held = [sequence for sequence, owner in self._running.items() if owner is job]
        for sequence in held:
            self.finish(sequence)
        return held
