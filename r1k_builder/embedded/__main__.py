"""Serves the embedded teacher on loopback, so that any tool that speaks to an OpenAI-compatible host can try it."""

import argparse
import asyncio
import contextlib
import sys

from r1k_builder.embedded.bank import MODEL
from r1k_builder.embedded.host import serve

EXAMPLE = f"""example:
  python -m r1k_builder.embedded --port 8900 &
  r1k-build --source embedded --base-url http://127.0.0.1:8900/v1 --model {MODEL}
"""


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m r1k_builder.embedded",
        description=__doc__,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=8900, help="port on 127.0.0.1; 0 takes a free one (default: 8900)")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds that each answer waits (default: 0)")
    return parser


async def main() -> None:
    options = make_parser().parse_args()
    async with serve(options.latency, options.port) as url:
        print(f"{MODEL} (a solver, not a language model) on {url}; Ctrl-C ends it", flush=True)  # noqa: T201
        await asyncio.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        try:
            asyncio.run(main())
        except OSError as error:
            sys.exit(f"can't serve: {error.strerror}; choose another --port")
