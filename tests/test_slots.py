"""The adaptive limit: what a refusal teaches, how it grows back, who goes first, and to which endpoint."""

import asyncio

from r1k_builder.slots import Queue, Slots


async def test_no_more_than_the_limit_are_in_flight() -> None:
    pool = Slots(3)
    turns = Queue([pool])
    most = 0

    async def hold() -> None:
        nonlocal most
        async with turns.take(0):
            most = max(most, pool.in_flight)
            await asyncio.sleep(0.001)

    await asyncio.gather(*(hold() for _ in range(50)))
    assert most == 3
    assert pool.in_flight == 0


async def test_the_most_urgent_goes_first_and_equals_in_order() -> None:
    pool, order = Slots(1), list[str]()
    turns = Queue([pool])

    async def hold(name: str, urgency: int) -> None:
        async with turns.take(urgency):
            order.append(name)

    async with turns.take(0):
        waiting = [asyncio.create_task(hold(*who)) for who in (("new", 1), ("newer", 1), ("under way", 0))]
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    assert order == ["under way", "new", "newer"]


async def test_a_refusal_sets_the_limit_to_what_the_host_took() -> None:
    pool = Slots(8)
    turns = Queue([pool])
    async with turns.take(0), turns.take(0), turns.take(0), turns.take(0):
        for _ in range(5):
            pool.refused(None)
    assert pool.limit == 3


async def test_stray_refusals_leave_the_limit_alone() -> None:
    pool = Slots(8)
    turns = Queue([pool])
    for _ in range(50):
        async with turns.take(0), turns.take(0):
            pool.refused(None)
            for _ in range(19):
                pool.succeeded()
    assert pool.limit == 8


async def test_the_limit_doubles_per_round_trip_once_the_hold_is_over() -> None:
    pool = Slots(64)
    turns = Queue([pool])
    pool.limit = 4
    for _ in range(4):
        async with turns.take(0), turns.take(0), turns.take(0), turns.take(0):
            pool.in_flight, held = pool.limit, pool.in_flight
            pool.succeeded()
            pool.in_flight = held
    assert pool.limit == 8


async def test_no_growth_while_the_hold_lasts() -> None:
    pool = Slots(8)
    turns = Queue([pool])
    async with turns.take(0), turns.take(0):
        for _ in range(5):
            pool.refused(None)
        pool.succeeded()
    assert pool.limit == 1


async def test_a_rate_limit_closes_the_pool_until_the_host_said() -> None:
    pool = Slots(8)
    turns = Queue([pool])
    async with turns.take(0):
        pool.refused(0.05)  # nothing else was in flight: it is the rate, not the number
    began = asyncio.get_running_loop().time()
    async with turns.take(0):
        assert asyncio.get_running_loop().time() - began >= 0.04


async def test_a_cancelled_waiter_leaves_no_slot_behind() -> None:
    pool = Slots(1)
    turns = Queue([pool])
    async with turns.take(0):
        waiter = asyncio.create_task(turns.take(0).__aenter__())
        await asyncio.sleep(0)
        waiter.cancel()
        await asyncio.gather(waiter, return_exceptions=True)
    async with turns.take(0):
        assert pool.in_flight == 1


async def test_a_request_goes_where_the_largest_share_is_free() -> None:
    small, large = Slots(2), Slots(8)
    turns = Queue([small, large])
    async with turns.take(0) as first, turns.take(0) as second, turns.take(0), turns.take(0), turns.take(0):
        assert (first, second) == (small, large)
        assert (small.in_flight, large.in_flight) == (1, 4)


async def test_of_equals_it_goes_where_answers_come_sooner() -> None:
    slow, quick = Slots(4), Slots(4)
    slow.succeeded(2.0)
    quick.succeeded(0.1)
    async with Queue([slow, quick]).take(0) as taken:
        assert taken is quick


async def test_what_waits_goes_to_whichever_is_free_first() -> None:
    one, other = Slots(1), Slots(1)
    turns = Queue([one, other])
    async with turns.take(0):
        async with turns.take(0) as second:
            waiting = asyncio.create_task(turns.take(0).__aenter__())
            await asyncio.sleep(0)
        assert await waiting is second


async def test_one_that_is_not_there_rests_and_is_tried_by_one_request() -> None:
    gone, there = Slots(8), Slots(8)
    turns = Queue([gone, there])
    gone.failed(surely=True)
    assert gone.resting
    async with turns.take(0) as first, turns.take(0) as second:
        assert first is second is there
    rested(gone)
    async with turns.take(0) as first, turns.take(0) as second:
        assert (first, second) == (gone, there)
        gone.succeeded()
    async with turns.take(0), turns.take(0), turns.take(0), turns.take(0):
        assert gone.in_flight == there.in_flight == 2


async def test_each_rest_is_longer_but_failures_together_are_one() -> None:
    pool = Slots(8)
    turns, rests = Queue([pool, Slots(8)]), list[float]()
    for _ in range(3):
        for _ in range(5):
            pool.failed(surely=True)
        rests.append(pool.rest)
        rested(pool)
        async with turns.take(0) as taken:
            assert taken is pool
    assert rests == [1.0, 2.0, 4.0]


async def test_errors_of_a_host_that_answers_in_between_are_chance() -> None:
    pool = Slots(8)
    for _ in range(10):
        pool.failed()
        pool.failed()
        pool.succeeded()
    assert not pool.resting
    for _ in range(3):
        pool.failed()
    assert pool.resting


async def test_where_all_rest_none_is_spared() -> None:
    pools = [Slots(2), Slots(2)]
    for pool in pools:
        pool.failed(surely=True)
    turns = Queue(pools)
    async with turns.take(0), turns.take(0), turns.take(0), turns.take(0):
        assert [pool.in_flight for pool in pools] == [2, 2]


def rested(pool: Slots) -> None:
    """Its rest is over."""
    pool._rests_until = 0.0
