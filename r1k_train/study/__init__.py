"""`python -m r1k_train study`: the paper's questions on half a million parameters, on a laptop's CPU, in about 20 minutes."""

from r1k_train.study.command import main, make_parser

__all__ = ["main", "make_parser"]
