"""The choices: which rows are joined, drawn and opposed, against plain definitions of each."""

import hashlib
import random

import pytest

from r1k_builder.pair import NO_PAIR, PairIndex, Shortlist, mixed_subset, partners, probe_subset


def index_of(pairs: list[tuple[str, str, int, int, int]]) -> PairIndex:
    index = PairIndex()
    for pair_id, domain, row, forward, reverse in pairs:
        index.append(pair_id, domain, forward_row=row, forward_response=forward, reverse_response=reverse)
    return index


def drawn(count: int, seed: int, domains: str = "abc", lengths: int = 40) -> list[tuple[str, str, int, int, int]]:
    """Pairs with few distinct lengths, so that ties are common."""
    draw = random.Random(seed)

    def length() -> int:
        return draw.randrange(1, lengths)

    return [(f"{draw.getrandbits(80):020x}", draw.choice(domains), length(), length(), length()) for _ in range(count)]


def test_without_control_each_row_meets_its_own() -> None:
    assert list(partners(index_of(drawn(5, 0)), "none")) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("seed", range(5))
def test_independent_partners_are_others_of_the_domain_each_used_once(seed: int) -> None:
    index = index_of(drawn(60, seed))
    beside = partners(index, "independent")
    assert sorted(beside) == list(range(60))
    for position, partner in enumerate(beside):
        assert partner != position
        assert index.domains[partner] == index.domains[position]


def test_a_pair_that_is_alone_in_its_domain_has_no_partner() -> None:
    index = index_of([(f"{place:020x}", domain, 1, 1, 1) for place, domain in enumerate(("math", "crossword", "math"))])
    assert list(partners(index, "independent")) == [2, NO_PAIR, 0]


def test_no_choice_depends_on_the_order_of_the_source() -> None:
    pairs = drawn(700, 1)
    shuffled = random.Random(2).sample(pairs, len(pairs))
    one, other = index_of(pairs), index_of(shuffled)
    for choose in (mixed_subset, probe_subset):
        assert {one.pair_ids[place] for place in choose(one, range(700))} == {
            other.pair_ids[place] for place in choose(other, range(700))
        }
    couples = [
        {index.pair_ids[place]: index.pair_ids[partner] for place, partner in enumerate(partners(index, "independent"))}
        for index in (one, other)
    ]
    assert couples[0] == couples[1]


def test_mixed_500_is_the_500_lowest_draws() -> None:
    index = index_of(drawn(1200, 3))
    by_draw = sorted(range(1200), key=lambda place: hashlib.sha256(f"0:{index.pair_ids[place]}".encode()).digest())
    assert mixed_subset(index, range(1200)) == set(by_draw[:500])
    assert mixed_subset(index, range(200)) == set(range(200)), "fewer than 500: all"


def test_more_rows_only_displace_from_mixed_500() -> None:
    index = index_of(drawn(1200, 4))
    assert mixed_subset(index, range(1200)) & set(range(900)) <= mixed_subset(index, range(900))


def test_the_probe_is_the_50_shortest_ties_by_pair_id() -> None:
    index = index_of(drawn(400, 5, lengths=6))
    expected = sorted(range(400), key=lambda place: (index.forward_rows[place], index.pair_ids[place]))[:50]
    assert probe_subset(index, range(400)) == set(expected)
    assert probe_subset(index, range(30)) == set(range(30))


def test_the_shortlist_holds_all_that_a_choice_takes_and_few_others() -> None:
    pairs = drawn(4000, 7, lengths=3000)
    index, shortlist = index_of(pairs), Shortlist()
    listed = {position for position, pair in enumerate(pairs) if shortlist.admits(pair[0], pair[2])}
    assert mixed_subset(index, range(4000)) | probe_subset(index, range(4000)) <= listed
    assert len(listed) < 2200, "about 500 (1 + ln 8) and 50 (1 + ln 80)"
