"""The embedded bank and teacher: forward rows with exact answers, and a solver that inverts and solves them.

    formula.py    formulas rearranged and worked out, exactly
    relation.py   what a relation is: formula, quantities, words
    table.py      the relations
    wording.py    relation and values -> question, reasoning, answer
    bank.py       seeded draws -> forward rows, train and held out
    reading.py    question -> relation, givens, what is asked
    solver.py     prompt of template 1 or 2 -> reply
    host.py       the solver behind an OpenAI-compatible endpoint
    __main__.py   serves it alone

For trying out, testing and small experiments; the teacher is a solver, not a language model.
"""

from r1k_builder.embedded.bank import BANK_VERSION, Fact, distinct_questions, facts, rows
from r1k_builder.embedded.solver import Reply, answer
from r1k_builder.embedded.table import RELATIONS

__all__ = ["BANK_VERSION", "RELATIONS", "Fact", "Reply", "answer", "distinct_questions", "facts", "rows"]
