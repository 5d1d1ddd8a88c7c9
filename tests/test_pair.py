"""The choices: which rows are joined, drawn and opposed, against plain definitions of each."""

import hashlib
import random
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from r1k_builder.columns import EXAMPLES
from r1k_builder.joining import BLOCK, Joining
from r1k_builder.pair import NO_PAIR, Couple, Shortlist, mixed_subset, probe_subset, turned


def couple(pair_id: str, domain: str, *lengths: int) -> Couple:
    return Couple(pair_id, pair_id, domain, *lengths)


def drawn(count: int, seed: int, domains: str = "abc", lengths: int = 40) -> list[Couple]:
    """Pairs with few distinct lengths, so that ties are common."""
    draw = random.Random(seed)

    def length() -> int:
        return draw.randrange(1, lengths)

    return [couple(f"{draw.getrandbits(80):020x}", draw.choice(domains), length(), length(), length()) for _ in range(count)]


# -- joined to others ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_independent_partners_are_others_of_the_domain_each_used_once(seed: int) -> None:
    couples = drawn(60, seed)
    beside = turned(couples)
    assert sorted(beside) == list(range(60))
    for place, partner in enumerate(beside):
        assert partner != place
        assert couples[partner].domain == couples[place].domain


def test_a_pair_that_is_alone_in_its_domain_has_no_partner() -> None:
    couples = [couple(f"{place:020x}", domain, 1, 1, 1) for place, domain in enumerate(("math", "crossword", "math"))]
    assert turned(couples) == [2, NO_PAIR, 0]


def rows_of(pairs: list[Couple]) -> pa.Table:
    ids = [f"{pair.forward}-{side}" for pair in pairs for side in ("forward", "reverse")]
    columns = [ids if name == "id" else pa.nulls(len(ids), EXAMPLES.field(name).type) for name in EXAMPLES.names]
    return pa.table(columns, schema=EXAMPLES)


def joined(pairs: list[Couple], stage: Path, size: int) -> tuple[list[Couple], list[str], int]:
    """The couples that pairs become which come `size` at a time, the ids of their rows, and how many are left out."""
    couples: list[Couple] = []
    rows: list[str] = []

    def take(found: list[Couple], table: pa.Table) -> None:
        couples.extend(found)
        rows.extend(table["id"].to_pylist())

    joining = Joining(stage, take)  # type: ignore[arg-type]  # lists are what it gives
    for start in range(0, len(pairs), size):
        joining.add(pairs[start : start + size], rows_of(pairs[start : start + size]))
    joining.finish()
    joining.close()
    return couples, rows, joining.alone


@pytest.mark.parametrize("count", [0, 1, 2, 700, BLOCK + BLOCK // 2 - 1, 3 * BLOCK + 30])
def test_blocks_join_each_row_once_however_the_pairs_come(count: int, tmp_path: Path) -> None:
    pairs = drawn(count, 9)
    couples, rows, alone = joined(pairs, tmp_path, 32)
    assert (couples, rows, alone) == joined(pairs, tmp_path, max(1, count))
    if count < BLOCK + BLOCK // 2:
        partners = turned(pairs)
        assert [(one.forward, one.reverse) for one in couples] == [
            (pair.forward, pairs[partner].forward) for pair, partner in zip(pairs, partners, strict=True) if partner != NO_PAIR
        ]
    assert rows == [name for one in couples for name in (f"{one.forward}-forward", f"{one.reverse}-reverse")]
    by_id = {pair.forward: pair for pair in pairs}
    for one in couples:
        assert one.forward != one.reverse
        own, other = by_id[one.forward], by_id[one.reverse]
        assert one == own._replace(reverse=other.reverse, reverse_response=other.reverse_response)
        assert own.domain == other.domain
    assert Counter(one.forward for one in couples) == Counter(one.reverse for one in couples)
    assert len(couples) + alone == count
    assert alone == sum(times == 1 for times in Counter(pair.domain for pair in pairs).values())


def test_a_pair_that_is_alone_in_a_block_waits_for_the_next(tmp_path: Path) -> None:
    pairs = drawn(3 * BLOCK, 2, domains="a")
    for place in (5, 2 * BLOCK + 70):
        pairs[place] = pairs[place]._replace(domain="rare")
    pairs[BLOCK + 3] = pairs[BLOCK + 3]._replace(domain="single")
    couples, _, alone = joined(pairs, tmp_path, 32)
    assert alone == 1
    met = {one.forward: one.reverse for one in couples}
    assert met[pairs[5].forward] == pairs[2 * BLOCK + 70].forward
    assert met[pairs[2 * BLOCK + 70].forward] == pairs[5].forward


def test_no_more_than_half_a_block_waits(tmp_path: Path) -> None:
    pairs = [pair._replace(domain=f"{place}") for place, pair in enumerate(drawn(4 * BLOCK, 3))]
    joining = Joining(tmp_path, lambda *_: None)
    for start in range(0, len(pairs), 32):
        joining.add(pairs[start : start + 32], rows_of(pairs[start : start + 32]))
        assert len(joining._waiting) < 2 * BLOCK
    joining.finish()
    joining.close()
    assert joining.alone == len(pairs)


# -- drawn ---------------------------------------------------------------------------------------------------------


def test_mixed_500_and_the_probe_do_not_depend_on_the_order_of_the_source() -> None:
    one = drawn(700, 1)
    other = random.Random(2).sample(one, len(one))
    for choose in (mixed_subset, probe_subset):
        assert {one[place] for place in choose(one)} == {other[place] for place in choose(other)}
    assert set(zip(one, (one[place] for place in turned(one)), strict=True)) == set(
        zip(other, (other[place] for place in turned(other)), strict=True)
    )


def test_mixed_500_is_the_500_lowest_draws() -> None:
    couples = drawn(1200, 3)
    by_draw = sorted(range(1200), key=lambda place: hashlib.sha256(f"0:{couples[place].forward}".encode()).digest())
    assert mixed_subset(couples) == sorted(by_draw[:500])
    assert mixed_subset(couples[:200]) == list(range(200)), "fewer than 500: all"


def test_more_rows_only_displace_from_mixed_500() -> None:
    couples = drawn(1200, 4)
    assert set(mixed_subset(couples)) & set(range(900)) <= set(mixed_subset(couples[:900]))


def test_the_probe_is_the_50_shortest_ties_by_pair_id() -> None:
    couples = drawn(400, 5, lengths=6)
    expected = sorted(range(400), key=lambda place: (couples[place].forward_row, couples[place].forward))[:50]
    assert probe_subset(couples) == sorted(expected)
    assert probe_subset(couples[:30]) == list(range(30))


def test_the_shortlist_holds_all_that_a_choice_takes_and_few_others() -> None:
    couples, shortlist = drawn(4000, 7, lengths=3000), Shortlist()
    listed = {place for place, one in enumerate(couples) if shortlist.admits(one)}
    assert {*mixed_subset(couples), *probe_subset(couples)} <= listed
    assert len(listed) < 2200, "about 500 (1 + ln 8) and 50 (1 + ln 80)"
