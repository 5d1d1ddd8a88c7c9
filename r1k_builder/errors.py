"""Everything that can stop a build, one class per boundary.

    R1kError
    ├── UsageError        2    an option, a missing key, an unknown teacher
    │   ├── SourceError   2    the source can't be read, is empty, or lacks the columns
    │   └── DriftError    2    the folder holds a build of other settings
    ├── HostRefused       4    401, 402, 403, or nothing but 400/422
    ├── BudgetReached     5    the next request could pass --max-cost
    ├── LocalError        6    folder locked, disk full, read-only
    ├── HostUnreachable   7    no connection to the host, or no answer for too long
    └── Interrupted       130 or 143

Each message says what happened, to what, and what to type next. A programming error is none of these: it
propagates with its traceback and exit status 1. Status 3 (rows still owed) is an outcome, not an error.
"""


class R1kError(Exception):
    """Base of what a user can act on; `exit_code` is the process's status."""

    exit_code = 1


class UsageError(R1kError):
    exit_code = 2


class SourceError(UsageError):
    pass


class DriftError(UsageError):
    pass


class HostRefused(R1kError):
    exit_code = 4


class BudgetReached(R1kError):
    exit_code = 5


class LocalError(R1kError):
    exit_code = 6


class HostUnreachable(R1kError):
    exit_code = 7


class Interrupted(R1kError):
    """SIGINT (130) or SIGTERM (143) stopped the build; what was in flight has been drained."""

    def __init__(self, message: str, exit_code: int = 130) -> None:
        super().__init__(message)
        self.exit_code = exit_code
