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
from functools import lru_cache
from itertools import permutations
from math import log

from r1k_builder.embedded.relation import Given, Quantity, Relation
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
    "m/s": "m_per_s metres_per_second meters_per_second m·s⁻¹",
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
    "dollars per hour": "dollar_per_hour dollars_an_hour dollars/hour dollars/h per_hour an_hour",
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
_ASK = re.compile(r"\b(?:what|how|find|calculate|compute|determine|work out|evaluate)\b")
_SENTENCE_END = re.compile(r"[.?!](?=\s|$)")
_CLAUSE_END = re.compile(r"[.?!,;:](?=\s|$)|\band\b")
_WORD = re.compile(r"[a-z]+")
_BEYOND = re.compile(r"\b(?:twice|thrice|doubled?|tripled?|half|halved?|times|squared|compound(?:ed)?)\b")
"""Words that change what a number means in ways that the relations do not know."""
_PLAIN = str.maketrans({"−": "-", "–": "-", "\u2126": "Ω", "\u00a0": " ", "\u202f": " ", "*": "·"})


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
    """Words of the text that mean one of these quantities, and where they stand."""

    symbols: tuple[str, ...]
    start: int
    end: int


def read(question: str) -> Reading | None:
    """What the question says, or None where it is not plainly one of the bank's relations."""
    if len(question) > LONGEST_TEXT or question.count("?") > 1:
        return None
    text = question.translate(_PLAIN).replace("\\%", "%").replace("\\$", "$")
    lowered = text.lower()
    measures = measure(text)
    asking = _asking_part(lowered)
    if not measures or asking is None or _BEYOND.search(lowered):
        return None
    readings = (_fit(relation, lowered, measures, asking) for relation in _candidates(lowered))
    return next((reading for reading in readings if reading is not None), None)


def measure(text: str) -> list[Measure] | None:
    """Every number of `text` with its unit; None where a digit is left over, or there are more than `MOST_NUMBERS`."""
    measures, last = [], 0
    for match in _MEASURE.finditer(text):
        if _DIGIT.search(text, last, match.start()) or len(measures) == MOST_NUMBERS:
            return None
        unit = _UNITS.get(match["unit"] or "", "")
        if match["currency"]:
            unit = "dollars per hour" if unit == "dollars per hour" else "dollars"
        measures.append(Measure(Fraction(match["number"].replace(",", "")), unit, match.start(), match.end()))
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


def _fit(relation: Relation, lowered: str, measures: list[Measure], asking: tuple[int, int]) -> Reading | None:
    if len(measures) != len(relation.quantities) - 1:
        return None
    if relation.needs and not any(word in lowered for word in relation.needs):
        return None
    hints = list(_vocabulary(relation).hints(lowered))
    asked = next((h.symbols[0] for h in hints if asking[0] <= h.start < asking[1] and len(h.symbols) == 1), None)
    if asked is None:
        return None
    given = _place(relation, asked, lowered, measures, hints)
    if given is None:
        return None
    subject = next((subject for subject in relation.subjects if subject in lowered), None)
    return Reading(relation, given, asked, subject)


def _place(relation: Relation, asked: str, lowered: str, measures: list[Measure], hints: list[Hint]) -> Given | None:
    """Which number is which quantity: by unit, and by the nearest words where several have the same unit."""
    by_unit: dict[str, list[Quantity]] = defaultdict(list)
    for quantity in relation.quantities:
        if quantity.symbol != asked:
            by_unit[quantity.unit].append(quantity)
    values: Given = {}
    open_groups: list[tuple[list[str], list[Measure]]] = []
    for unit, quantities in by_unit.items():
        group = [m for m in measures if m.unit == unit]
        if len(group) != len(quantities):
            return None
        symbols = [quantity.symbol for quantity in quantities]
        if len(group) > 1:
            _place_by_words(symbols, group, lowered, hints, values)
        if len(group) == 1:
            values[symbols[0]] = group[0].value
        elif group:
            open_groups.append((symbols, group))
    if any(not _place_rest(relation, asked, symbols, group, values) for symbols, group in open_groups):
        return None
    return {quantity.symbol: values[quantity.symbol] for quantity in relation.quantities if quantity.symbol != asked}


def _place_by_words(symbols: list[str], group: list[Measure], lowered: str, hints: list[Hint], values: Given) -> None:
    """Moves numbers from `group` into `values`, and their symbols out of `symbols`: nearest words of the clause first."""
    ends = [match.start() for match in _CLAUSE_END.finditer(lowered)]
    links = []
    for number in group:
        before = max((end for end in ends if end < number.start), default=0)
        after = min((end for end in ends if end >= number.end), default=len(lowered))
        for hint in hints:
            if before <= hint.start and hint.end <= after:
                gap = number.start - hint.end if hint.end <= number.start else hint.start - number.end
                links += [(gap, number.start, symbol, number) for symbol in hint.symbols]
    for _, _, symbol, number in sorted(links, key=lambda link: link[:2]):
        if symbol in symbols and number in group:
            values[symbol] = number.value
            symbols.remove(symbol)
            group.remove(number)


def _place_rest(relation: Relation, asked: str, symbols: list[str], group: list[Measure], values: Given) -> bool:
    """Places numbers without a name of their own: where the order makes no difference ("a rectangle of 5 cm by 3 cm")."""
    known = values | dict.fromkeys((q.symbol for q in relation.quantities if q.symbol not in values), Fraction(1))
    results = set()
    for order in permutations(group):
        known |= {symbol: number.value for symbol, number in zip(symbols, order, strict=True)}
        try:
            results.add(relation.solve(known, asked))
        except ZeroDivisionError:
            return False
    values |= {symbol: number.value for symbol, number in zip(symbols, group, strict=True)}
    return len(results) == 1


class _Vocabulary:
    """The words that mean a relation's quantities."""

    def __init__(self, relation: Relation) -> None:
        self._exact: dict[str, tuple[str, ...]] = {}
        self._stems: dict[str, tuple[str, ...]] = {}
        for variable in relation.variables:
            for cue in (variable.name, *variable.cues):
                table = self._stems if cue.endswith("*") else self._exact
                table[cue.rstrip("*")] = (*table.get(cue.rstrip("*"), ()), variable.symbol)
        patterns = [(len(cue), re.escape(cue)) for cue in self._exact]
        patterns += [(len(stem), re.escape(stem) + "[a-z]*") for stem in self._stems]
        # The longest first: "commission rate" is not the commission.
        self._pattern = re.compile(rf"\b(?:{'|'.join(p for _, p in sorted(patterns, reverse=True))})\b")

    def hints(self, lowered: str) -> Iterator[Hint]:
        for match in self._pattern.finditer(lowered):
            found = match.group()
            symbols = self._exact.get(found) or next(s for stem, s in self._stems.items() if found.startswith(stem))
            yield Hint(symbols, match.start(), match.end())


@lru_cache(maxsize=None)
def _vocabulary(relation: Relation) -> _Vocabulary:
    return _Vocabulary(relation)


def _candidates(lowered: str) -> list[Relation]:
    """The relations that share words with the text, the rarest words counting most."""
    index = _word_index()
    scores: dict[int, float] = defaultdict(float)
    for word in set(_WORD.findall(lowered)):
        for place, weight in index.get(word, ()):
            scores[place] += weight
    return [RELATIONS[place] for place in sorted(scores, key=lambda place: (-scores[place], place))]


@lru_cache(maxsize=None)
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
