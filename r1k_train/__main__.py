"""`accelerate launch r1k_train COMMAND ...`, `accelerate launch -m r1k_train COMMAND ...`, `python -m r1k_train COMMAND ...`.

`accelerate launch r1k_train` executes this folder: `sys.path[0]` is then the folder itself and `__package__` is empty. So
imports here are absolute, and no module beside this one may be called like a library that it needs.
"""

import sys
from importlib import import_module

COMMANDS: dict[str, str] = {
    "sft": "supervised fine-tuning from a recipe",
    "dpo": "preference optimisation from a recipe",
    "merge": "an adapter into its model",
    "plan": "memory, time and cost of a recipe, before it is launched",
    "probe": "ALP of both responses of each pair, margin, and where mass goes",
    "figures": "the paper's figures from probe results and training logs",
    "study": "the paper's questions in miniature, on a CPU in 20 minutes",
    "eval": "lm-eval on the r1k tasks, resumable; writes what `report` reads",
    "report": "the paper's tables: measured beside published, with intervals",
    "tasks": "print the folder of the lm-eval tasks",
}
"""What each command does; the module of its name has `main(words)`, which returns the exit status."""


def main(words: list[str] | None = None) -> int:
    """Run one command, importing nothing that the others need; an unknown one is status 2."""
    words = sys.argv[1:] if words is None else words
    if not words or words[0] in {"-h", "--help"}:
        print(_usage())
        return 0
    if words[0] not in COMMANDS:
        print(f"r1k_train: there is no command {words[0]!r}\n{_usage()}", file=sys.stderr)
        return 2
    status: int = import_module(f"r1k_train.{words[0]}").main(words[1:])
    return status


def _usage() -> str:
    listed = "".join(f"\n  {name:10}{what}" for name, what in COMMANDS.items())
    return f"usage: r1k_train COMMAND ...; r1k_train COMMAND --help says more{listed}"


if __name__ == "__main__":
    raise SystemExit(main())
