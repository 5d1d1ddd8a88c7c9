"""One limit and one budget for several shards: what each gets, what is never passed, and how both survive a loss."""

import random
from dataclasses import dataclass, field

from r1k_builder.limiter import EXPIRY, Budget, Lease, Limiter, Money, Report, Use

URL = "http://host/v1"


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Shard:
    """What a shard does with its lease: fill it, and shrink to what the host takes."""

    name: str
    waiting: int = 1000
    held: int = 0
    in_flight: int = 0
    shrunk: int = 0
    limit: int = 0
    alive: bool = True

    def report(self, limiter: Limiter) -> Lease:
        use = Use(self.held, self.in_flight, self.waiting, self.shrunk, self.limit)
        lease = limiter.report(Report(self.name, {URL: use}))
        self.held, self.limit = lease.slots[URL], lease.limits[URL]
        return lease

    def fill(self, room: int) -> int:
        """Send what the lease allows; of that the host takes `room`. How many were refused."""
        sent = max(0, min(self.waiting, self.held - self.in_flight))
        taken = min(sent, max(0, room))
        self.in_flight += taken
        if taken < sent:
            self.held = max(1, self.in_flight)
            self.shrunk += 1
        return sent - taken


@dataclass
class World:
    """Shards, their limiter, and a host that takes `cap`."""

    cap: int
    most: int = 64
    count: int = 4
    clock: Clock = field(default_factory=Clock)
    refused: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.shards = [Shard(f"{number}") for number in range(self.count)]
        self.start_limiter()

    def start_limiter(self) -> None:
        self.limiter = Limiter(self.most, self.count, clock=self.clock)

    @property
    def in_flight(self) -> int:
        return sum(shard.in_flight for shard in self.shards if shard.alive)

    def go(self, seconds: float, latency: int = 2) -> int:
        """Tenths of a second, in each of which every shard reports, sends, and has a part answered. The most at once over the
        cap."""
        over = 0
        for _ in range(round(seconds * 10)):
            self.clock.now += 0.1
            refused, alive = 0, [shard for shard in self.shards if shard.alive]
            for shard in alive:
                shard.in_flight -= -(-shard.in_flight // latency)
            for shard in alive:
                refused += shard.fill(self.cap - self.in_flight)
            for shard in alive:
                shard.report(self.limiter)
                refused += shard.fill(self.cap - self.in_flight)
            over = max(over, refused)
        return over


def test_all_get_an_equal_part_of_what_there_is() -> None:
    world = World(cap=1000)
    world.go(1)
    assert [shard.held for shard in world.shards] == [16] * 4


def test_who_needs_less_leaves_the_rest_to_the_others() -> None:
    world = World(cap=1000)
    world.shards[0].waiting = 3
    world.shards[1].waiting = 0
    world.go(EXPIRY + 1, latency=1)
    assert [shard.held for shard in world.shards] == [6, 0, 29, 29]  # three in flight, and three more wait


def test_a_late_one_gets_its_part_back_from_those_who_have_it() -> None:
    world = World(cap=1000)
    world.shards[0].waiting = 0
    world.go(2)
    world.shards[0].waiting = 100
    world.go(1)
    assert [shard.held for shard in world.shards] == [16] * 4


def test_the_hosts_cap_is_passed_by_no_more_than_there_are_shards() -> None:
    world = World(cap=22)
    assert world.go(1) > 4
    assert world.go(60) <= 4
    assert world.in_flight <= 22
    assert sum(shard.held for shard in world.shards) >= 22


def test_a_cap_that_is_lifted_is_filled_again() -> None:
    world = World(cap=8)
    world.go(5)
    world.cap = 1000
    world.go(8)
    assert sum(shard.held for shard in world.shards) == 64


def test_what_a_killed_one_held_comes_back() -> None:
    world = World(cap=1000)
    world.go(1)
    world.shards[2].alive = False
    world.go(EXPIRY / 2)
    assert sum(shard.held for shard in world.shards if shard.alive) == 48
    world.go(EXPIRY)
    assert sum(shard.held for shard in world.shards if shard.alive) == 64


def test_a_new_limiter_learns_the_limit_from_the_shards() -> None:
    world = World(cap=22)
    world.go(10)
    world.start_limiter()
    assert world.go(30) <= 4
    assert sum(shard.held for shard in world.shards) >= 22


def test_a_new_limiter_lends_nothing_twice() -> None:
    world = World(cap=1000)
    world.go(1)
    for shard in world.shards:
        shard.held = shard.in_flight = {"0": 40, "1": 8, "2": 8, "3": 8}[shard.name]
    world.start_limiter()
    for _ in range(20):
        world.go(0.1)
        assert sum(shard.held for shard in world.shards) <= 64


def test_fewer_slots_than_shards() -> None:
    world = World(cap=1000, most=2)
    world.go(1)
    assert sum(shard.held for shard in world.shards) == 2


# -- the budget ----------------------------------------------------------------------------------------------------


@dataclass
class Purse:
    """What a shard does with its allowance: reserve `price`, and pay some of that."""

    name: str
    price: int
    spent: int = 0
    reserved: int = 0
    allowance: int = 0
    tight: bool = False
    final: bool = False

    def report(self, budget: Budget, ahead: int = 5) -> None:
        needs = self.spent + self.reserved + self.price > self.allowance
        if self.tight and needs:
            self.allowance = self.spent + self.reserved
        least = self.price if needs else 0
        wanted = (self.price * (1 if self.tight else ahead)) if needs else 0
        money = Money(self.spent, self.reserved, self.allowance, least, wanted)
        self.allowance, self.tight, self.final = budget.lease(self.name, money)

    def buy(self, draw: random.Random) -> bool:
        """Send where the allowance lasts, or have something answered; whether anything happened."""
        if self.spent + self.reserved + self.price <= self.allowance:
            self.reserved += self.price
            return True
        if self.reserved:
            self.reserved -= self.price
            self.spent += draw.randint(0, self.price)
            return True
        return False


def test_a_budget_is_never_passed_and_is_used_to_less_than_the_next_request() -> None:
    for seed in range(20):
        draw = random.Random(seed)
        budget, purses = Budget(1000, 3), [Purse(f"{number}", price=7 + number) for number in range(3)]
        for _ in range(2000):
            purse = draw.choice(purses)
            purse.report(budget)
            for _ in range(draw.randint(0, 4)):
                purse.buy(draw)
            assert sum(purse.spent + purse.reserved for purse in purses) <= 1000
            assert sum(purse.allowance for purse in purses) <= 1000
        assert all(purse.final for purse in purses)
        assert sum(purse.spent for purse in purses) > 1000 - 10


def test_a_budget_waits_for_every_journal() -> None:
    budget = Budget(100, 2)
    assert budget.lease("0", Money(20, 0, 20, 5, 5)) == (20, True, False)
    assert budget.lease("1", Money(70, 0, 70, 5, 5))[0] == 75
    assert budget.lease("0", Money(20, 0, 20, 5, 5))[0] == 25
    assert budget.spent == 90


def test_what_a_killed_one_may_have_spent_is_kept_until_its_journal_is_read() -> None:
    budget, left, lost = Budget(100, 2), Purse("0", 10), Purse("1", 10)
    for _ in range(3):
        left.report(budget, 4)
        lost.report(budget, 4)
    held = lost.allowance
    assert held > 0
    for _ in range(50):
        left.report(budget)
        left.buy(random.Random(0))
    assert not left.final
    assert left.allowance <= 100 - held
    budget.lease("1", Money(10, 0, 10))  # it is back, and has sent one request
    for _ in range(100):
        left.report(budget)
        left.buy(random.Random(0))
    assert left.final
    assert left.spent > 80
