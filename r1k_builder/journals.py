"""Any number of journals as one: those of a source's shards, and the one of a build without shards.

A row is in the journal of its shard. Where the source was split in several ways, one after the other, or built without
shards, too, a row may be in several journals: then what any of them holds counts, a build's without shards first, then by
the number of shards. So what is read does not depend on which journal was written when.
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Self, TypeVar

from r1k_builder.journal import Batch, Journal, JournalView, Lost, RawReply, Spent, StoredReply, Waiting
from r1k_builder.schema import ForwardExample
from r1k_builder.shards import Shard

T = TypeVar("T")
Sums = TypeVar("Sums", Spent, Lost)

NOTHING = Spent(0, 0, 0, 0, 0, 0, 0)


class Journals:
    """Journals that are open for reading at least; the file's name says whose each is."""

    def __init__(self, views: Iterable[JournalView]) -> None:
        found = [(Shard.of_journal(view.path.name), view) for view in views]
        found.sort(key=lambda pair: (pair[0].of, pair[0].number) if pair[0] is not None else (0, 0))
        self.views = [view for _, view in found]
        self._whole = [view for shard, view in found if shard is None]
        self._by_split: dict[int, dict[int, JournalView]] = {}
        for shard, view in found:
            if shard is not None:
                self._by_split.setdefault(shard.of, {})[shard.number - 1] = view
        self._narrowed: dict[tuple[JournalView, ...], Journals] = {}

    @classmethod
    def open(cls, paths: Iterable[Path]) -> Self:
        return cls(JournalView(path) for path in paths)

    def close(self) -> None:
        for view in self.views:
            view.close()

    @property
    def splits(self) -> list[int]:
        """In how many shards the source was split: each way of which there is a journal."""
        return sorted(self._by_split)

    @property
    def _apart(self) -> bool:
        """Whether no row can be in two of them."""
        return len(self._whole) + len(self._by_split) <= 1

    def of(self, pair_id: str) -> "Journals":
        """Those that a row can be in."""
        if len(self.views) == 1:
            return self
        number = int(pair_id, 16)
        splits = ((of, views) for of, views in self._by_split.items() if number % of in views)
        owners = (*self._whole, *(views[number % of] for of, views in splits))
        if owners not in self._narrowed:
            self._narrowed[owners] = Journals(owners)
        return self._narrowed[owners]

    def lacking(self, stop: int) -> tuple[int, list[Shard]]:
        """How many source rows before position `stop` no journal holds, and the shards that have not read so far."""
        read = min(self.source_read(), stop)
        rows = read - self.source_length(stop)
        if not self._by_split or rows <= 0:
            return 0, []
        numbers = ((of, number, views.get(number)) for of, views in self._by_split.items() for number in range(of))
        behind = (Shard(number + 1, of) for of, number, view in numbers if view is None or min(view.source_read(), stop) < read)
        return rows, list(behind)

    # -- rows ------------------------------------------------------------------------------------------------------

    def examples(self, stop: int | None = None, *, start: int = 0) -> Iterator[ForwardExample]:
        """The source rows from position `start` to `stop`, in order."""
        pages = [view.placed_examples(stop, start=start) for view in self.views]
        return (example for _, example in _merged(pages))

    def source_length(self, stop: int | None = None) -> int:
        """How many source rows there are before position `stop`."""
        if self._apart:
            return sum(view.source_length(stop) for view in self.views)
        return sum(self.rows_per_batch(1 << 40, stop or 2**62).values())

    def source_read(self) -> int:
        """The position up to which the source has been read."""
        return max((view.source_read() for view in self.views), default=0)

    def asked_length(self) -> int:
        """The position behind the last source row that anything was asked for."""
        return max((view.asked_length() for view in self.views), default=0)

    def rows_per_batch(self, size: int, stop: int) -> dict[int, int]:
        """How many source rows there are in each batch of `size` positions, counted from 0, that lie before position `stop`."""
        if self._apart:
            return _total(view.rows_per_batch(size, stop) for view in self.views)
        placed = _merged([view.placed_states("", stop) for view in self.views])
        return dict(sorted(Counter(position // size for position, _ in placed).items()))

    def states(self, flow: str, stop: int | None = None) -> dict[str, int]:
        """How many of the source rows before position `stop` are settled in each state under `flow`."""
        if self._apart:
            return _total(view.states(flow, stop) for view in self.views)
        placed = heapq.merge(*(view.placed_states(flow, stop or 2**62) for view in self.views), key=itemgetter(0))
        ends = (next((state for _, state in row if state is not None), None) for _, row in groupby(placed, itemgetter(0)))
        return dict(Counter(state for state in ends if state is not None))

    def settled_after(self, mark: int, flow: str, stop: int) -> list[tuple[int, int]]:
        """`JournalView.settled_after` of a single journal: only one is followed while it is written."""
        (view,) = self.views
        return view.settled_after(mark, flow, stop)

    def is_settled(self, pair_id: str, flow: str) -> bool:
        return any(view.is_settled(pair_id, flow) for view in self.of(pair_id).views)

    def unsettle(self, pair_id: str) -> None:
        """The row is owed again, in each journal that is open for writing."""
        for view in self.of(pair_id).views:
            if isinstance(view, Journal):
                view.unsettle(pair_id)

    # -- answers ---------------------------------------------------------------------------------------------------

    def replies(self, key: str) -> list[RawReply]:
        """Every sound reply of status 200 to the request `key`."""
        return [reply for view in self.views for reply in view.replies(key)]

    def refusals(self, key: str) -> list[bytes]:
        return [body for view in self.views for body in view.refusals(key)]

    def prompt(self, key: str) -> str | None:
        """The last message of the request `key` as it was sent."""
        return next((prompt for view in self.views if (prompt := view.prompt(key)) is not None), None)

    def telling_replies(self, stop: int) -> Iterator[StoredReply | None]:
        """The replies for the source rows before position `stop` that decide something, in source order, then by key; None
        for one that is damaged."""
        told = heapq.merge(*(_marked(view.telling_attempts(stop), place) for place, view in enumerate(self.views)))
        for _, _, place, attempt in told:
            yield self.views[place].stored_reply(attempt)

    # -- sums ------------------------------------------------------------------------------------------------------

    def spent(self) -> Spent:
        return _added(NOTHING, (view.spent() for view in self.views))

    def spent_by_stage(self) -> dict[str, Spent]:
        """The same, of each stage that anything was asked for."""
        stages: dict[str, list[Spent]] = {}
        for stage, spent in chain.from_iterable(view.spent_by_stage().items() for view in self.views):
            stages.setdefault(stage, []).append(spent)
        return {stage: _added(NOTHING, sums) for stage, sums in sorted(stages.items())}

    def spent_at_most(self) -> int:
        """Picodollars that are spent for certain, plus the worst of what is lost, waits in a batch, or came without usage."""
        return sum(view.spent_at_most() for view in self.views)

    def lost(self) -> Lost:
        """Attempts of all runs without a reply, given up on, or cut off: they may have been billed."""
        return _added(Lost(0, 0), (view.lost() for view in self.views))

    def batches(self) -> list[Batch]:
        """The batches that wait at a host, or may."""
        return [batch for view in self.views for batch in view.batches()]

    def waiting(self) -> list[Waiting]:
        """The attempts that wait in a batch."""
        return [waiting for view in self.views for waiting in view.waiting()]

    def replies_in_batches(self) -> int:
        return sum(view.replies_in_batches() for view in self.views)

    def returned_models(self) -> dict[str, int]:
        """Replies per model that the hosts say has answered."""
        return _total(view.returned_models() for view in self.views)

    def answers_by_host(self) -> dict[str, int]:
        """How many answers each host has given to this build."""
        return _total(view.answers_by_host() for view in self.views)

    def responses(self) -> dict[str, int]:
        """How many attempts ended how: `ok`, an HTTP status, or the name of what happened."""
        return _total(view.responses() for view in self.views)

    def replayed_from(self) -> dict[str, int]:
        """How many replies came from which other build."""
        return _total(view.replayed_from() for view in self.views)

    def asked_here(self, stop: int, most: int) -> tuple[int, list[str]]:
        """How many of the source rows before position `stop` have asked this build's host, or are still to ask; and the
        `pair_id` of the first `most`."""
        count, first = 0, []
        for _, pair_id in _merged([view.asked_here(stop) for view in self.views]):
            count += 1
            if count <= most:
                first.append(pair_id)
        return count, first

    def days(self) -> tuple[str, str] | None:
        """The days (UTC) of the first answer and the last."""
        days = [day for view in self.views for day in view.days() or ()]
        return (min(days), max(days)) if days else None

    def seconds(self) -> Iterator[tuple[str, float]]:
        """Of each answer, its stage and the seconds that it took; in a batch nobody waits for one."""
        return chain.from_iterable(view.seconds() for view in self.views)

    def tokens_since(self, moment: float) -> int:
        """Completion tokens that came in after `moment` (epoch seconds)."""
        return sum(view.tokens_since(moment) for view in self.views)


def _merged(rows: Sequence[Iterator[tuple[int, T]]]) -> Iterator[tuple[int, T]]:
    """Rows by position from several journals, each in order; of a position that several have, the first's."""
    if len(rows) == 1:
        return rows[0]
    return (next(same) for _, same in groupby(heapq.merge(*rows, key=itemgetter(0)), itemgetter(0)))


def _marked(told: Iterator[tuple[int, str, int]], place: int) -> Iterator[tuple[int, str, int, int]]:
    return ((position, key, place, attempt) for position, key, attempt in told)


def _total(counts: Iterable[Mapping[Any, int]]) -> dict[Any, int]:
    total: Counter[Any] = Counter()
    for counted in counts:
        total.update(counted)
    return dict(sorted(total.items()))


def _added(nothing: Sums, parts: Iterable[Sums]) -> Sums:
    """The sums of several journals, number by number."""
    return type(nothing)(*map(sum, zip(nothing, *parts, strict=True)))
