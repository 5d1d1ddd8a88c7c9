"""Whose response the control rejects, and that it is written a block at a time."""

import random
from pathlib import Path

import pyarrow as pa
import pytest

from r1k_builder.columns import EXAMPLES, assistant_turns
from r1k_builder.control import BLOCK, POOL, Control, control_responses
from r1k_builder.pair import NO_PAIR, Couple


def drawn(count: int, seed: int, domains: str = "abc", *, joined: bool = False) -> list[Couple]:
    """Couples of one pair each; `joined`: of two, each pair's rows in one couple each."""
    draw = random.Random(seed)
    forward = [f"{draw.getrandbits(80):020x}" for _ in range(count)]
    reverse = [*forward[1:], *forward[:1]] if joined else forward
    return [
        Couple(*ids, draw.choice(domains), 0, draw.randrange(12), draw.randrange(12))
        for ids in zip(forward, reverse, strict=True)
    ]


def nearest(couples: list[Couple], place: int, side: str) -> tuple[int, bool]:
    """By the definition: the couple, and whether another domain had to be searched."""
    own = couples[place]
    others = [at for at, couple in enumerate(couples) if getattr(couple, side) not in (own.forward, own.reverse)]
    same = [at for at in others if couples[at].domain == own.domain]

    def order(at: int) -> tuple[int, str]:
        lengths = (getattr(couple, f"{side}_response") for couple in (couples[at], own))
        return abs(next(lengths) - next(lengths)), getattr(couples[at], side)

    chosen = min(same or others, key=order, default=NO_PAIR)
    return chosen, chosen != NO_PAIR and not same


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize(("count", "domains"), [(1, "a"), (2, "a"), (3, "ab"), (7, "abcdef"), (90, "abc"), (150, "a")])
@pytest.mark.parametrize("seed", range(4))
def test_responses_are_the_nearest_of_other_pairs(count: int, domains: str, seed: int, joined: bool) -> None:
    couples = drawn(count, seed, domains, joined=joined)
    found = control_responses(couples)
    elsewhere = 0
    for place in range(count):
        beside_forward, beside_reverse = (nearest(couples, place, side) for side in ("reverse", "forward"))
        assert (found.forward_prompts[place], found.reverse_prompts[place]) == (beside_forward[0], beside_reverse[0])
        elsewhere += beside_forward[1] + beside_reverse[1]
    assert found.other_domain == elsewhere


@pytest.mark.timeout(30)
def test_equal_lengths_cost_no_quadratic_search() -> None:
    found = control_responses([Couple(f"{place:020x}", f"{place:020x}", "math", 0, 5, 5) for place in range(20_000)])
    assert found.forward_prompts[:3] == [1, 0, 0]
    assert found.forward_prompts[19_999] == 0


def rows_of(couples: list[Couple]) -> pa.Table:
    """The couples' rows, each with its id for a response."""
    ids = [f"{pair}-{side}" for couple in couples for pair, side in ((couple.forward, "f"), (couple.reverse, "r"))]
    given = {"id": ids, "completion": assistant_turns([pa.py_buffer(name.encode()) for name in ids])}
    columns = [given[name] if name in given else pa.nulls(len(ids), EXAMPLES.field(name).type) for name in EXAMPLES.names]
    return pa.table(columns, schema=EXAMPLES)


def written(couples: list[Couple], stage: Path, size: int) -> tuple[list[pa.Table], Control]:
    """What a Control writes of couples that come `size` at a time: a table of rows for each time it wrote."""
    tables: list[pa.Table] = []
    control = Control(stage, tables.append)
    for start in range(0, len(couples), size):
        control.add(couples[start : start + size], rows_of(couples[start : start + size]))
    control.finish()
    control.close()
    return tables, control


@pytest.mark.parametrize(
    ("count", "pools"),
    [
        (1, [(0, 0, 1)]),
        (40, [(0, 0, 40)]),
        (999, [(0, 0, 999)]),
        (1300, [(0, 0, 1000), (250, 1000, 1250), (300, 1250, 1300)]),
        (6100, [(0, 0, 1000), *((stop - 1000, stop - 250, stop) for stop in range(1250, 6001, 250)), (5100, 6000, 6100)]),
    ],
)
def test_blocks_are_the_same_however_the_couples_come(count: int, pools: list[tuple[int, int, int]], tmp_path: Path) -> None:
    """A pool is where it begins, where the couples begin that are written by it, and where both end."""
    couples = drawn(count, 5)
    tables, control = written(couples, tmp_path, 32)
    rows = [row for table in tables for row in table.to_pylist()]
    assert rows == [row for table in written(couples, tmp_path, count)[0] for row in table.to_pylist()]
    expected = []
    for first, start, stop in pools:
        pool = couples[first:stop]
        found = control_responses(pool, start - first)
        for couple, reverse, forward in zip(couples[start:stop], found.forward_prompts, found.reverse_prompts, strict=True):
            expected += [(f"{couple.forward}-f", f"{pool[reverse].reverse}-r")] * (reverse != NO_PAIR)
            expected += [(f"{couple.reverse}-r", f"{pool[forward].forward}-f")] * (forward != NO_PAIR)
    assert [(row["id"], row["rejected"][0]["content"]) for row in rows] == expected
    assert all(row["chosen"][0]["content"] == row["id"] for row in rows)
    assert control.without == 2 * count - len(rows) == (2 if count == 1 else 0)


def test_blocks_are_written_while_couples_still_come(tmp_path: Path) -> None:
    tables: list[pa.Table] = []
    control = Control(tmp_path, tables.append)
    couples = drawn(POOL + BLOCK, 3)
    for couple, expected in zip(couples, [0] * (POOL - 1) + [POOL] * BLOCK + [POOL + BLOCK], strict=True):
        control.add([couple], rows_of([couple]))
        assert sum(table.num_rows for table in tables) == 2 * expected
    control.close()
