"""Writes the journal of a build that was stopped just before its end, through the builder's own flow and journal.

What the teacher would have said is made up on the spot, so 100,000 answers cost no HTTP.
"""

import asyncio
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Protocol

from r1k_builder import flow
from r1k_builder.build import open_build
from r1k_builder.config import BuildConfig
from r1k_builder.folder import BuildFolder
from r1k_builder.journal import Journal
from r1k_builder.replay import flow_version
from r1k_builder.reply import read_reply
from r1k_builder.schema import Example, ForwardExample
from r1k_builder.shards import Shard

AT_ONCE = 256
"""Rows in flight, which share the journal's commits."""


class Answering(Protocol):
    """What makes up answers: the simulated host, or the embedded solver."""

    def reply(self, prompt: str) -> bytes: ...


def write_answered(output: Path, config: BuildConfig, host: Answering, owed: int = 0, shard: Shard | None = None) -> int:
    """Make `output` the folder of a build of `config`, or of a shard, with every answer of `host` but for the last `owed` rows.

    Returns the number of answers.
    """
    folder = BuildFolder(output, shard)
    folder.create()
    with folder.building():
        journal, *_ = open_build(folder, config, accept_drift=False, note=print)
        rows = islice(journal.examples(), journal.source_length() - owed)
        asyncio.run(_answer_rows(journal, config, host, rows))
        journal.end_run("Interrupted")
        answers = journal.spent().replies
        journal.close()
    return answers


async def _answer_rows(journal: Journal, config: BuildConfig, host: Answering, rows: Iterator[ForwardExample]) -> None:
    async def work() -> None:
        for example in rows:
            await _answer_row(journal, config, host, example)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())
    await journal.flush()


async def _answer_row(journal: Journal, config: BuildConfig, host: Answering, example: ForwardExample) -> None:
    teacher, steps = config.teacher, flow.reverse(example, config)
    try:
        request = next(steps)
        while True:
            number = journal.next_attempt()
            await journal.sent(number, request, example.pair_id, teacher.host, teacher.host_model, None)
            body = host.reply(request.messages[0]["content"])
            await journal.received(number, 200, body)
            completion = read_reply(body, key=request.key, host=teacher.host, requested_model=teacher.host_model)
            journal.enter(number, completion.model, completion.usage, None)
            request = steps.send(completion)
    except StopIteration as end:
        if not isinstance(end.value, Example):
            raise TypeError(f"the made-up answers were turned down: {end.value.reason}") from None
        journal.settle(example.pair_id, flow_version(config), "accepted")
