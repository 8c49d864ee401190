"""The gate against platforms that limit requests, in time that passes as fast as it can."""

from __future__ import annotations

import asyncio
import random
import selectors
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.api.gate import HOPELESS, Gate

if TYPE_CHECKING:
    from collections.abc import Coroutine


class Impatient(selectors.DefaultSelector):
    """Lets nobody wait: the time that would have passed is added up."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise AssertionError("everybody waits for nothing")
        self.now += max(0.0, timeout)
        return super().select(0)


def in_no_time(main: Coroutine[object, object, None]) -> float:
    """Run something, and return the seconds that it would have taken."""
    selector = Impatient()

    class Loop(asyncio.SelectorEventLoop):
        def time(self) -> float:
            return selector.now

    with asyncio.Runner(loop_factory=lambda: Loop(selector)) as runner:
        runner.run(main)
    return selector.now


@dataclass
class Bucket:
    """A platform that takes `size` requests at once and `refill` a second, and answers in `latency`.

    `whole`: it fills up once a second, not continuously. `tells`: what is left stands in its
    answers. `wait`: the seconds of its `Retry-After`.
    """

    size: int
    refill: int
    latency: float
    whole: bool = False
    tells: bool = False
    wait: int | None = None
    level: float = 0.0
    filled: float = 0.0
    taken: int = 0
    refused: int = 0

    def __post_init__(self) -> None:
        self.level = self.size

    async def answer(self) -> bool:
        await asyncio.sleep(self.latency / 2)
        now = asyncio.get_running_loop().time()
        passed = float(int(now - self.filled)) if self.whole else now - self.filled
        self.filled += passed
        self.level = min(self.size, self.level + passed * self.refill)
        free = self.level >= 1
        self.level -= free
        self.taken += free
        self.refused += not free
        await asyncio.sleep(self.latency / 2)
        return free


async def all_through(bucket: Bucket, needed: int, workers: int) -> None:
    """Send `needed` requests until each was taken."""
    gate = Gate()
    waiting = iter(range(needed))

    async def work() -> None:
        for _ in waiting:
            while True:
                ticket = await gate.enter()
                assert ticket is not None, "given up"
                if await bucket.answer():
                    gate.passed(ticket, int(bucket.level) if bucket.tells else None)
                    break
                gate.refused(ticket, bucket.wait)

    await asyncio.gather(*(work() for _ in range(workers)))


buckets = st.builds(
    Bucket,
    size=st.integers(5, 200),
    refill=st.integers(5, 500),
    latency=st.sampled_from([0.001, 0.02, 0.2]),
    whole=st.booleans(),
    tells=st.booleans(),
    wait=st.sampled_from([None, None, 1, 5]),
)


@settings(max_examples=40, deadline=None)
@given(bucket=buckets, workers=st.integers(1, 32), seed=st.integers(0, 2**32))
def test_in_any_storm_a_needed_request_takes_at_most_1_2(
    bucket: Bucket, workers: int, seed: int
) -> None:
    bucket.size = max(bucket.size, bucket.refill) if bucket.whole else bucket.size
    state = random.getstate()
    random.seed(seed)
    try:
        seconds = in_no_time(all_through(bucket, 1000, workers))
    finally:
        random.setstate(state)
    assert bucket.taken == 1000
    assert bucket.taken + bucket.refused <= 1200
    # and in a time that is of the order of what the platform allows
    least = max(0, 1000 - bucket.size) / bucket.refill + 1000 * bucket.latency / workers
    assert seconds <= 6 * least + 60


@settings(max_examples=40, deadline=None)
@given(
    bucket=st.builds(
        Bucket,
        size=st.integers(5, 30),
        refill=st.integers(5, 50),
        latency=st.sampled_from([0.02, 0.1]),
    ),
    needed=st.sampled_from([80, 300]),
    workers=st.sampled_from([16, 64, 256]),
    seed=st.integers(0, 2**32),
)
def test_a_small_limit_is_met_by_few_of_many_workers(
    bucket: Bucket, needed: int, workers: int, seed: int
) -> None:
    state = random.getstate()
    random.seed(seed)
    try:
        in_no_time(all_through(bucket, needed, workers))
    finally:
        random.setstate(state)
    assert bucket.taken + bucket.refused <= 1.2 * needed


def test_without_a_limit_nobody_waits_for_long() -> None:
    bucket = Bucket(10_000, 0, 0.02)
    assert in_no_time(all_through(bucket, 1600, 16)) == pytest.approx(2.1, abs=0.1)
    assert bucket.refused == 0


def test_what_the_platform_tells_is_not_overdrawn() -> None:
    told, silent = (Bucket(50, 0, 0.02, tells=tells) for tells in (True, False))
    for bucket in (told, silent):
        bucket.refill = 10
        in_no_time(all_through(bucket, 100, 16))
    assert told.refused < silent.refused


def test_a_platform_that_refuses_for_good_is_given_up() -> None:
    """And so is one that asks for too long a pause; nothing more is sent to it."""

    async def refused(retry_after: float | None, times: int) -> None:
        gate = Gate()
        for _ in range(times):
            ticket = await gate.enter()
            assert ticket is not None
            gate.refused(ticket, retry_after)
        assert gate.hopeless
        assert await gate.enter() is None

    seconds = in_no_time(refused(None, HOPELESS))
    assert 60 < seconds < 600
    assert in_no_time(refused(3600, 1)) == 0


@pytest.mark.parametrize("asked", [0.0, 7.0])
def test_a_pause_that_is_asked_for_is_obeyed_by_all(asked: float) -> None:
    times: list[float] = []

    async def work(gate: Gate) -> None:
        ticket = await gate.enter()
        times.append(asyncio.get_running_loop().time())
        assert ticket is not None
        gate.passed(ticket, None)

    async def main() -> None:
        gate = Gate()
        ticket = await gate.enter()
        assert ticket is not None
        gate.refused(ticket, asked)
        await asyncio.gather(*(work(gate) for _ in range(5)))

    in_no_time(main())
    assert min(times) >= asked


def test_who_is_cancelled_while_he_waits_keeps_nobody_out() -> None:
    async def main() -> None:
        gate = Gate()
        ticket = await gate.enter()
        assert ticket is not None
        gate.refused(ticket, 5)
        probe, other = (asyncio.create_task(gate.enter()) for _ in range(2))
        await asyncio.sleep(1)
        probe.cancel()
        assert await other is not None

    assert in_no_time(main()) >= 5


def test_a_success_from_before_the_refusal_does_not_open_the_gate() -> None:
    async def main() -> None:
        gate = Gate()
        early, late = await gate.enter(), await gate.enter()
        assert early is not None
        assert late is not None
        gate.refused(late, 9)
        gate.passed(early, None)
        await gate.enter()
        assert asyncio.get_running_loop().time() >= 9

    in_no_time(main())


def test_a_time_of_rest_does_not_count_as_a_slow_platform() -> None:
    async def main() -> None:
        gate = Gate()
        for pause in (0.0, 3600.0):
            await asyncio.sleep(pause)
            ticket = await gate.enter()
            assert ticket is not None
            gate.refused(ticket, 1)
            await all_pass(gate, 5)
        before = asyncio.get_running_loop().time()
        await all_pass(gate, 5)
        assert asyncio.get_running_loop().time() - before < 5

    async def all_pass(gate: Gate, count: int) -> None:
        for _ in range(count):
            ticket = await gate.enter()
            assert ticket is not None
            gate.passed(ticket, None)

    in_no_time(main())
