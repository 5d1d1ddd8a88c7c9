"""How far through the source `--accepted` takes a dataset: to the row by which so many are in `reverse-verified`.

The run that asks and the assembly that writes both count here, in source order and with all checks, so that they end at the
same row, whatever the concurrency: a function of journal and settings.
"""

from collections.abc import Iterable, Iterator
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory

from r1k_builder.reviews import Reviews
from r1k_builder.schema import Example, Outcome
from r1k_builder.verify import failures
from r1k_builder.verify.duplicate import Duplicates, keys


class Quota:
    """Counts the verified rows of a source, in its order, until there are `wanted`. `place` is for what it remembers.

    A row that a reviewer rejects is not verified, and another takes its place.
    """

    def __init__(self, wanted: int, place: Path, reviews: Reviews) -> None:
        self.wanted = wanted
        self._reviews = reviews
        self.verified = 0
        self.rows = 0
        """Source rows that have been counted."""
        self._place = TemporaryDirectory(prefix="quota-", dir=place)
        self._seen = Duplicates(Path(self._place.name) / "questions.sqlite")

    def close(self) -> None:
        self._seen.close()
        self._place.cleanup()

    @property
    def reached(self) -> bool:
        return self.verified >= self.wanted

    @property
    def rows_needed(self) -> int:
        """How many more source rows it takes, at the share of verified rows so far (of none so far: if all were)."""
        return ceil((self.wanted - self.verified) * (self.rows + 1) / (self.verified + 1))

    def take(self, found: Outcome) -> None:
        """Count the next source row. One that is owed counts as not verified."""
        self.rows += 1
        for row in (found.forward, found.reverse):
            if not isinstance(row, Example):
                continue
            new = self._seen.check(row.id, row.pair_id, row.question, keys(row.question))  # as the dataset's rows are compared
            if row.direction == "reverse" and new.status != "fail" and not failures(row.verdict):
                human = self._reviews.verdict(row.pair_id, row.question, row.reasoning, row.answer)
                self.verified += human is None or human.status != "fail"


def up_to(quota: Quota, outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
    """Successive source rows until the quota is reached, the one that reaches it included."""
    for found in outcomes:
        quota.take(found)
        yield found
        if quota.reached:
            return
