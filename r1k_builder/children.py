"""Processes of our own that work beside this one: a task and orders go in as JSON lines, answers come out as JSON lines."""

import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from sqlite3 import Error as SqliteError
from typing import Any, NoReturn

from r1k_builder.database import local_error
from r1k_builder.errors import LocalError, R1kError, UsageError


class Child:
    """A process that runs `main` of one of our modules, in a process group of its own, so that a Ctrl-C in the terminal does
    not reach it, but in our session: Linux shares processors out by session first (autogroup), and priority counts within one.
    Its standard error is ours; the end of its standard input bids it end."""

    def __init__(self, main: Callable[[], None], task: Mapping[str, Any], nice: int = 0) -> None:
        """`nice`: by how much its priority is below ours."""
        start = f"import os, sys; os.nice({nice}); sys.path[:] = {sys.path!a}; from {main.__module__} import main; main()"
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(  # noqa: S603  # our own code
            [sys.executable, "-c", start],
            stdin=pipe,
            stdout=pipe,
            process_group=0,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # more of them wait for one another, and slow the run down
        )
        self.tell(task)

    def tell(self, line: Any) -> None:
        with suppress(BrokenPipeError):  # it has ended: `answer` says of what
            self.process.stdin.write(json.dumps(line).encode() + b"\n")  # type: ignore[union-attr]  # it is a pipe
            self.process.stdin.flush()  # type: ignore[union-attr]

    def answer(self) -> dict[str, Any]:
        """The next answer.

        Raises the LocalError or UsageError that it ended of; LocalError where it was killed, RuntimeError where it has died
        of a bug, which it has printed.
        """
        said = self.process.stdout.readline()  # type: ignore[union-attr]  # it is a pipe
        if not said.endswith(b"\n"):
            self._explain_end()
        answer: dict[str, Any] = json.loads(said)
        if "error" in answer:
            raise (LocalError if answer["local"] else UsageError)(answer["error"])
        return answer

    def close(self, grace: float) -> None:
        """Bid it end, and kill it where it has not ended after so many seconds."""
        with self.process as process:
            with suppress(BrokenPipeError):
                process.stdin.close()  # type: ignore[union-attr]  # it is a pipe
            try:
                process.wait(grace)
            except subprocess.TimeoutExpired:
                process.kill()

    def _explain_end(self) -> NoReturn:
        status = self.process.wait()
        if status < 0:
            raise LocalError(
                f"the process that makes the dataset was killed by signal {-status}, for want of memory perhaps:"
                " type r1k-build --resume to make the dataset (what is answered is not asked again)"
            )
        raise RuntimeError(f"the process that makes the dataset has ended with status {status}")


# -- in any of them ------------------------------------------------------------------------------------------------


def relax_collector() -> None:
    """Collect cycles less often: rows come and go by the thousand and leave none behind, and looking for them takes a
    tenth of the processor."""
    gc.freeze()
    gc.set_threshold(20_000, 10, 5)


# -- in the child --------------------------------------------------------------------------------------------------


def without_pandas() -> None:
    """Half a second sooner: pyarrow would import pandas with the first list that it is given, to see whether it is a column."""
    sys.meta_path.insert(0, _Without("pandas"))


class _Without:
    """Finds one module to be missing."""

    def __init__(self, name: str) -> None:
        self._name = name

    def find_spec(self, name: str, _path: object, _target: object = None) -> None:
        if name == self._name:
            raise ImportError(name)


@contextmanager
def told_parent(journal: str) -> Iterator[None]:
    """Tells the parent what the user can mend. `journal` is the file that sqlite's errors speak of."""
    try:
        yield
    except R1kError as error:
        say({"error": str(error), "local": isinstance(error, LocalError)})
    except SqliteError as error:
        say({"error": str(local_error(error, Path(journal))), "local": True})


def say(answer: Mapping[str, Any]) -> None:
    """Answer with a line."""
    with suppress(BrokenPipeError):  # the parent has gone
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()
