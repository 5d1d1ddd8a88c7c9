"""`r1k-build`, and `python -m r1k_builder`."""

import sys


def main() -> int:
    """Run the command. Importing it takes a moment, and a Ctrl-C in that moment is no traceback either."""
    try:
        from r1k_builder.cli import main as run

        return run()
    except KeyboardInterrupt:
        print("r1k-build: interrupted before it began", file=sys.stderr)  # noqa: T201
        return 130


if __name__ == "__main__":
    sys.exit(main())
