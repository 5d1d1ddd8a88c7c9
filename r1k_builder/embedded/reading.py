"""Reads a question: which relation it is about, what it gives and what it asks. Sees nothing but the text.

The reader knows the relations' quantities, not the bank's wordings: numbers with their units, words that mean a
quantity, and the question word. Every number of the text must find its place, else the question is not read. Time is
linear in the length of the text, of which no more than `LONGEST_TEXT` characters are looked at.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import groupby, permutations
from math import log
from typing import NamedTuple

from r1k_builder.embedded.relation import Given, Relation
from r1k_builder.embedded.table import RELATIONS

LONGEST_TEXT = 1200
MOST_NUMBERS = 12

SPELLINGS = {
    "kg": "kilogram kilograms",
    "g": "gram grams",
    "m": "metre metres meter meters",
    "cm": "centimetre centimetres centimeter centimeters",
    "cm²": "cm^2 cm2 sq.cm square_cm square_centimetres square_centimeters",
    "cm³": "cm^3 cm3 cc cubic_cm cubic_centimetres cubic_centimeters",
    "s": "sec second seconds",
    "m/s": "m_per_s metres_per_second meters_per_second",
    "m/s²": "m/s^2 m/s2 m/s/s metres_per_second_squared meters_per_second_squared",
    "N": "newton newtons",
    "J": "joule joules",
    "A": "amp amps ampere amperes",
    "V": "volt volts",
    "Ω": "ohm ohms",
    "kPa": "kilopascal kilopascals",
    "L": "litre litres liter liters l",
    "mL": "ml millilitre millilitres milliliter milliliters",
    "mol": "mole moles",
    "K": "kelvin kelvins",
    "J/(mol·K)": "J/mol·K J/mol/K J/(mol*K) J/(mol_K) J_per_mol_K joules_per_mole_kelvin",
    "g/mol": "grams_per_mole g_per_mol",
    "g/cm³": "g/cm^3 g/cm3 g/cc grams_per_cubic_centimetre grams_per_cubic_centimeter g_per_cm³",
    "mol/L": "mol/l mol_per_litre mol_per_liter moles_per_litre moles_per_liter M",
    "mmol/L": "mmol/l mmol_per_litre mmol_per_liter",
    "mmol/(L·s)": "mmol/L/s mmol/(L*s) mmol_per_litre_per_second mmol_per_liter_per_second mmol/L_per_second",
    "%": "percent per_cent pct",
    "°": "degrees degree deg",
    "dollars": "dollar USD $",
    "hours": "hour h hr hrs",
    "months": "month",
    "years": "year yr yrs",
}
"""How the bank's units may be spelled; `_` stands for a space."""

_UNITS = {spelling.replace("_", " "): unit for unit, line in SPELLINGS.items() for spelling in (unit, *line.split())}
_UNITS |= {spelling.capitalize(): unit for spelling, unit in _UNITS.items() if spelling.isalpha() and len(spelling) > 2}
_MEASURE = re.compile(
    rf"""(?<![\w.,^])(?P<currency>\$\s?)?
         (?P<number>-?(?:\d{{1,3}}(?:,\d{{3}}){{1,3}}|\d{{1,12}})(?:\.\d{{1,6}})?)(?!\d|[.,]\d)
         (?:[ -]?(?P<unit>{"|".join(sorted(map(re.escape, _UNITS), key=len, reverse=True))})(?![\w/^·*²³]))?""",
    re.VERBOSE,
)
_DIGIT = re.compile(r"\d")
_ASK = re.compile(r"\b(?:what|how|find|calculate|compute|determine|work out|evaluate)\b|(?:^|(?<=[.?!] ))which\b")
_SENTENCE_END = re.compile(r"[.?!](?=\s|$)")
_CLAUSE_END = re.compile(r"[.?!,;:](?=\s|$)|\band\b")
_CLOSE = {"of", "is", "was", "are", "="}
"""Between a number and a word these bind them: in "a mass of 90 g reacts" the mass is nearer than the reaction."""
_WORD = re.compile(r"[a-z]+")
_BEYOND = re.compile(r"\b(?:twice|thrice|doubled?|tripled?|half|halved?|times|squared|compounded)\b")
"""Words that change what a number means in ways that the relations do not know."""
_PLAIN = str.maketrans({"−": "-", "–": "-", "\u2126": "Ω", "\u00a0": " ", "\u202f": " "})


@dataclass(frozen=True)
class Reading:
    relation: Relation
    given: Given
    """In the relation's order, constants included."""
    asked: str
    subject: str | None
    """The relation's subject that the question names, if it is one of the bank's."""


@dataclass(frozen=True)
class Measure:
    """A number of the text with its unit ("" where none of the known ones follows), and where it stands."""

    value: Fraction
    unit: str
    start: int
    end: int


@dataclass(frozen=True)
class Hint:
    """Words of the text that mean a quantity (several, as "from" can), and where they stand."""

    asked: tuple[str, ...]
    """The symbols that they mean where they are asked."""
    stated: tuple[str, ...]
    """The symbols that they mean beside a number."""
    leads: tuple[str, ...]
    """The symbols that they mean before a number."""
    start: int
    end: int


class Link(NamedTuple):
    """Words `gap` characters away say that `number` is the quantity `symbol`."""

    gap: int
    number: Measure
    symbol: str


def read(question: str) -> Reading | None:
    """What the question says, or None where it is not plainly one of the bank's relations."""
    if len(question) > LONGEST_TEXT or question.count("?") > 1:
        return None
    text = plain(question.strip())
    lowered = text.lower()
    measures = measure(text)
    asking = _asking_part(lowered)
    if not measures or asking is None or _BEYOND.search(lowered) or len(lowered) != len(text):
        return None
    readings = (_fit(relation, lowered, measures, asking) for relation in _candidates(lowered))
    return next((reading for reading in readings if reading is not None), None)


def plain(text: str) -> str:
    """`text` with one kind of minus sign, of space, of Ω, and without LaTeX's backslash before % and $."""
    return text.translate(_PLAIN).replace("\\%", "%").replace("\\$", "$")


def measure(text: str) -> list[Measure] | None:
    """Every number of a `plain` text with its unit; None where a digit is left over, or there are more than `MOST_NUMBERS`."""
    measures: list[Measure] = []
    last = 0
    for match in _MEASURE.finditer(text):
        if _DIGIT.search(text, last, match.start()) or len(measures) == MOST_NUMBERS:
            return None
        unit = _UNITS.get(match["unit"] or "", "")
        unit = "dollars" if match["currency"] else unit
        digits = match["number"].replace(",", "")
        value = Fraction(digits) if "." in digits else Fraction(int(digits))
        measures.append(Measure(value, unit, match.start(), match.end()))
        last = match.end()
    return None if _DIGIT.search(text, last) else measures


def _asking_part(lowered: str) -> tuple[int, int] | None:
    """From the question word to the end of its sentence; of several sentences that have one, the last."""
    found, start = None, 0
    for end in [*(match.end() for match in _SENTENCE_END.finditer(lowered)), len(lowered)]:
        if word := _ASK.search(lowered, start, end):
            found = (word.start(), end)
        start = end
    return found


_SLOWS = re.compile(r"\b(?:decelerat|slows?\b|slowing\b|brak(?:es?|ing)\b)")
"""Words that turn a given acceleration round."""


def _fit(relation: Relation, lowered: str, measures: list[Measure], asking: tuple[int, int]) -> Reading | None:
    if len(measures) != len(relation.quantities) - 1:
        return None
    if relation.needs and not any(word in lowered for word in relation.needs):
        return None
    hints = list(_vocabulary(relation).hints(lowered))
    asked = next((hint for hint in hints if asking[0] <= hint.start < asking[1] and len(hint.asked) == 1), None)
    if asked is None:
        return None
    units = [number.unit for number in measures] + [relation.by_symbol[asked.asked[0]].unit]
    telling_units = len(set(units)) == len(units)
    links = [] if telling_units else _links(relation, measures, [hint for hint in hints if hint is not asked], lowered)
    given = _place(relation, asked.asked[0], measures, links)
    if given is not None and _SLOWS.search(lowered):
        given |= {symbol: -given[symbol] for symbol in given if relation.by_symbol[symbol].name == "acceleration"}
    subject = next((subject for subject in relation.subjects if subject in lowered), None)
    return None if given is None else Reading(relation, given, asked.asked[0], subject)


def _links(relation: Relation, measures: list[Measure], hints: list[Hint], lowered: str) -> list[Link]:
    """Numbers with the quantities that words say they are: words of the same clause, with no other number between."""
    ends = [match.start() for match in _CLAUSE_END.finditer(lowered)]
    links = []
    for place, number in enumerate(measures):
        before = max((end for end in ends if end < number.start), default=0)
        after = min((end for end in ends if end >= number.end), default=len(lowered))
        before = max(before, measures[place - 1].end if place else 0)
        after = min(after, measures[place + 1].start if place + 1 < len(measures) else after)
        for hint in hints:
            if before <= hint.start and hint.end <= after:
                leads = hint.end <= number.start
                between = lowered[hint.end : number.start] if leads else lowered[number.end : hint.start]
                gap = 0 if between.strip() in _CLOSE else len(between)
                symbols = hint.stated + hint.leads if leads else hint.stated
                fitting = (symbol for symbol in symbols if relation.by_symbol[symbol].unit == number.unit)
                links += [Link(gap, number, symbol) for symbol in fitting]
    return sorted(links, key=lambda link: link.gap)


def _place(relation: Relation, asked: str, measures: list[Measure], links: list[Link]) -> Given | None:
    """Which number is which quantity: by unit, and by the nearest words; None where that leaves a doubt."""
    values: Given = {}
    left = list(measures)
    for _, level in groupby(links, key=lambda link: link.gap):
        fresh = ((link.number, link.symbol) for link in level if link.number in left and link.symbol not in values)
        equal = tuple(dict.fromkeys(fresh))
        for number, symbol in equal:
            if any((number == n) != (symbol == s) for n, s in equal):
                continue  # equally near to two: no evidence for either
            if symbol == asked:
                return None
            values[symbol] = number.value
            left.remove(number)
    unnamed: dict[str, list[str]] = defaultdict(list)
    for quantity in relation.quantities:
        if quantity.symbol != asked and quantity.symbol not in values:
            unnamed[quantity.unit].append(quantity.symbol)
    for unit, symbols in unnamed.items():
        numbers = [number.value for number in left if number.unit == unit]
        if len(numbers) != len(symbols) or (len(numbers) > 1 and not _alike(relation, asked, tuple(symbols))):
            return None
        values |= zip(symbols, numbers, strict=True)
    return {quantity.symbol: values[quantity.symbol] for quantity in relation.quantities if quantity.symbol != asked}


@cache
def _alike(relation: Relation, asked: str, symbols: tuple[str, ...]) -> bool:
    """Whether these quantities can change places, so that numbers need no names ("a rectangle of 5 cm by 3 cm")."""
    probe = {
        quantity.symbol: Fraction(prime) for quantity, prime in zip(relation.quantities, (7, 11, 13, 17, 19), strict=False)
    }
    orders = permutations([probe[symbol] for symbol in symbols])
    return len({relation.solve(probe | dict(zip(symbols, order, strict=True)), asked) for order in orders}) == 1


class _Vocabulary:
    """The words that mean a relation's quantities (`Quantity.cues` says how they are marked)."""

    def __init__(self, relation: Relation) -> None:
        marked = [(cue, variable.symbol) for variable in relation.variables for cue in (variable.name.lower(), *variable.cues)]
        # The longest first: "commission rate" is not the commission.
        cues = sorted({cue.rstrip("?>") for cue, _ in marked}, key=len, reverse=True)
        self._stems = [cue for cue in cues if cue.endswith("*")]
        self._meanings = {
            cue: (
                tuple(symbol for mark, symbol in marked if mark in {cue, cue + "?"}),
                tuple(symbol for mark, symbol in marked if mark == cue),
                tuple(symbol for mark, symbol in marked if mark == cue + ">"),
            )
            for cue in cues
        }
        alternatives = "|".join(re.escape(cue.rstrip("*")) + "[a-z]*" * cue.endswith("*") for cue in cues)
        self._pattern = re.compile(rf"\b(?:{alternatives})\b")

    def hints(self, lowered: str) -> Iterator[Hint]:
        for match in self._pattern.finditer(lowered):
            cue = match.group()
            if cue not in self._meanings:
                cue = next(stem for stem in self._stems if cue.startswith(stem[:-1]))
            yield Hint(*self._meanings[cue], match.start(), match.end())


@cache
def _vocabulary(relation: Relation) -> _Vocabulary:
    return _Vocabulary(relation)


def _candidates(lowered: str) -> list[Relation]:
    """The relations that share words with the text, the rarest words counting most."""
    index = _word_index()
    scores: dict[int, float] = defaultdict(float)
    for word in dict.fromkeys(_WORD.findall(lowered)):  # a set would add up in another order in every process
        for place, weight in index.get(word, ()):
            scores[place] += weight
    return [RELATIONS[place] for place in sorted(scores, key=lambda place: (-scores[place], place))]


@cache
def _word_index() -> dict[str, list[tuple[int, float]]]:
    """Word -> (place in RELATIONS, weight) of each relation that uses it; without words that most of them use."""
    places: dict[str, set[int]] = defaultdict(set)
    for place, relation in enumerate(RELATIONS):
        phrases = [*relation.subjects, *relation.needs]
        for variable in relation.variables:
            phrases += [variable.name, variable.before_subject, variable.state, variable.question, *variable.cues]
        for word in _WORD.findall(" ".join(phrases).lower()):
            places[word].add(place)
    telling = {word: found for word, found in places.items() if len(found) <= len(RELATIONS) // 3}
    return {word: [(place, log(len(RELATIONS) / len(found))) for place in found] for word, found in telling.items()}
