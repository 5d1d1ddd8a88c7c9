"""The adaptive limit: what a refusal teaches, how it grows back, who goes first."""

import asyncio

from r1k_builder.slots import Slots


async def test_no_more_than_the_limit_are_in_flight() -> None:
    pool = Slots(3)
    most = 0

    async def hold() -> None:
        nonlocal most
        async with pool.take(0):
            most = max(most, pool.in_flight)
            await asyncio.sleep(0.001)

    await asyncio.gather(*(hold() for _ in range(50)))
    assert most == 3
    assert pool.in_flight == 0


async def test_the_most_urgent_goes_first_and_equals_in_order() -> None:
    pool, order = Slots(1), list[str]()

    async def hold(name: str, urgency: int) -> None:
        async with pool.take(urgency):
            order.append(name)

    async with pool.take(0):
        waiting = [asyncio.create_task(hold(*who)) for who in (("new", 1), ("newer", 1), ("under way", 0))]
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    assert order == ["under way", "new", "newer"]


async def test_a_refusal_sets_the_limit_to_what_the_host_took() -> None:
    pool = Slots(8)
    async with pool.take(0), pool.take(0), pool.take(0), pool.take(0):
        for _ in range(5):
            pool.refused(None)
    assert pool.limit == 3


async def test_stray_refusals_leave_the_limit_alone() -> None:
    pool = Slots(8)
    for _ in range(50):
        async with pool.take(0), pool.take(0):
            pool.refused(None)
            for _ in range(19):
                pool.succeeded()
    assert pool.limit == 8


async def test_the_limit_doubles_per_round_trip_once_the_hold_is_over() -> None:
    pool = Slots(64)
    pool.limit = 4
    for _ in range(4):
        async with pool.take(0), pool.take(0), pool.take(0), pool.take(0):
            pool.in_flight, held = pool.limit, pool.in_flight
            pool.succeeded()
            pool.in_flight = held
    assert pool.limit == 8


async def test_no_growth_while_the_hold_lasts() -> None:
    pool = Slots(8)
    async with pool.take(0), pool.take(0):
        for _ in range(5):
            pool.refused(None)
        pool.succeeded()
    assert pool.limit == 1


async def test_a_rate_limit_closes_the_pool_until_the_host_said() -> None:
    pool = Slots(8)
    async with pool.take(0):
        pool.refused(0.05)  # nothing else was in flight: it is the rate, not the number
    began = asyncio.get_running_loop().time()
    async with pool.take(0):
        assert asyncio.get_running_loop().time() - began >= 0.04


async def test_a_cancelled_waiter_leaves_no_slot_behind() -> None:
    pool = Slots(1)
    async with pool.take(0):
        waiter = asyncio.create_task(pool.take(0).__aenter__())
        await asyncio.sleep(0)
        waiter.cancel()
        await asyncio.gather(waiter, return_exceptions=True)
    async with pool.take(0):
        assert pool.in_flight == 1
