"""What a response says: whether it can be used, its box, its doubts, and whether it agrees with the answer that is known."""

from r1k_builder.reply import holds_control_token
from r1k_builder.schema import CheckResult, ForwardExample, Rejection, Solution
from r1k_builder.verify.answer import Number, SameAnswer, read_answer, same_answer, stated_answer
from r1k_builder.verify.inverse import Pair, choice_letters, times_stated
from r1k_builder.verify.question import Question, Text
from r1k_builder.verify.result import failed, passed, quote, unknown


def check_format(solution: Solution | Rejection) -> CheckResult:
    """The reply could be read: finished by `stop`, reasoning present and closed, answer present, no control tokens."""
    if isinstance(solution, Rejection):
        return failed(solution.reason)
    for name, text in (("reasoning", solution.reasoning), ("answer", solution.answer)):
        if not text.strip():
            return failed(f"no {name}")
        if holds_control_token(text):
            return failed(f"a chat template's token in the {name}")
    return passed()


def check_boxed(solution: Solution) -> CheckResult:
    """Template 2 demands a box where the answer is one number; elsewhere its absence says nothing."""
    if "\\boxed" in solution.answer and solution.final_answer is not None:
        return passed()
    stated = stated_answer(solution.answer)
    if stated is not None and isinstance(read_answer(stated), Number):
        return failed(f"the answer is a number, {quote(stated)}, without \\boxed{{}}")
    return unknown("no \\boxed{}")


# -------------------------------------------------------------------------------------------------------------- hedged

HEDGES = {
    "guess": "guess", "ambigu": "ambiguous", "unclear": "unclear", "not sure": "not sure", "not certain": "not certain",
    "unsure": "unsure", "no idea": "no idea", "stuck": "stuck", "settle on": "settle on", "settle for": "settle for",
    "settle with": "settle with", "assum": "assume", "not provided": "not provided", "n't provide": "not provided",
    "not given": "not given", "n't given": "not given", "not specif": "not specified", "n't specif": "not specified",
    "without more": "without more", "insufficient": "insufficient", "not enough": "not enough",
    "underdetermined": "underdetermined", "n't determine": "can't determine", "cannot determine": "can't determine",
    "cannot be determined": "can't determine", "n't be determined": "can't determine",
}  # fmt: skip
"""Doubts about a question and its answer, by the letters that tell them, and what a reason calls them. Thinking aloud
(wait, maybe, perhaps, hmm) is none: R1 does it everywhere."""

MOST_DOUBTS = 4
"""Of the real pairs that were read, those with five or more were all bad."""

_SIGNS = {sign.encode(): doubt for sign, doubt in HEDGES.items()}


def check_hedged(solution: Solution) -> CheckResult:
    """The teacher does not doubt, five times or more, that the reverse question has an answer. Says which doubts, and where."""
    text = solution.reasoning.encode("utf-8", "replace").lower().replace("’".encode(), b"'")
    found = {sign: count for sign in _SIGNS if (count := text.count(sign))}
    if not found:
        return passed()
    counts: dict[str, int] = {}
    for sign, count in found.items():
        counts[_SIGNS[sign]] = counts.get(_SIGNS[sign], 0) + count
    total = sum(counts.values())
    first = 100 * min(map(text.find, found)) // len(text)
    named = ", ".join(f"{doubt} {count}" for doubt, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    reason = f"{total} doubt{'s' * (total > 1)} (the first at {first} %): {named}"
    return failed(reason) if total > MOST_DOUBTS else passed(reason)


# ----------------------------------------------------------------------------------------------------------- agreement


def check_agreement(pair: Pair) -> CheckResult:
    """The solved answer is template 1's "New Answer". Where the forward answer is not its source's, the reason says so too."""
    reference = pair.asked.answer.strip()
    if not reference:
        return unknown("no New Answer to compare with")
    stated = stated_answer(reference) or reference
    result = _agreement(stated, pair.final, "the New Answer", pair.reverse, pair.same_answer)
    prose = result.status == "unknown" and read_answer(stated) is None and not Question(reference).choices  # that state all
    if prose and pair.final is not None and times_stated(pair.final, Text(reference)):
        result = passed(f"{quote(pair.final)} stands in the New Answer")
    key = check_key(pair.source, pair.source.answer or "", pair.forward, pair.same_answer)
    if key.status != "fail":
        return result
    return result.model_copy(update={"reason": f"{result.reason}; the forward key is in doubt: {key.reason}"[:200]})


def check_key(source: ForwardExample, answer: str, question: Question, same_answer: SameAnswer = same_answer) -> CheckResult:
    """A forward answer is the one that its source's solution states."""
    key = stated_answer(source.solution)
    if key is None:
        return unknown("the solution states no final answer")
    return _agreement(key, stated_answer(answer), "the solution", question, same_answer)


def _agreement(key: str, final: str | None, keeper: str, question: Question, same_answer: SameAnswer) -> CheckResult:
    """A letter agrees with a value where the question's choice of that letter does."""
    if final is None:
        return unknown("the answer states no final answer")
    same = same_answer(key, final)
    for one, other in ((key, final), (final, key)):
        letters = choice_letters(one)
        if same is None and len(letters) == 1 and (chosen := question.choices.get(letters[0])):
            same = same_answer(chosen, other)
    if same is None:
        return unknown(f"can't compare {quote(final)} with {keeper}, {quote(key)}")
    return passed(f"{quote(final)}, as {keeper} says") if same else failed(f"{quote(final)}, where {keeper} says {quote(key)}")
