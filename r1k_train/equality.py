"""Are two final answers equal? Read alike, taken apart alike, and value by value by math-verify.

What has a structure (an interval, a point, a list, a matrix, a time) is compared part by part, so that an order or a bracket
counts where it should. A value is compared without its unit, unless both name one; exactly where both are rational, else
by math-verify, else at points. No limit in time or memory here: `checker` asks these questions in a worker that has both.
"""

import cmath
import random
import re
from fractions import Fraction
from typing import Any, Literal, NamedTuple

from r1k_train.spelling import COUNTS, SCALES, WORDS, Reading, readings, same_text, tidy, unworded

Verdict = Literal["equal", "different", "unreadable"]
MOST = 12
"""Members of a list that are matched in any order."""


def compare(gold: str, answer: str) -> Verdict:
    """Equal or different in value; unreadable where a value was asked for and words without one were given."""
    if same_text(gold, answer):
        return "equal"
    ours, theirs = readings(tidy(gold)), readings(tidy(answer))
    common = next((kind for kind in ours if kind in theirs), None)
    if common == "value":
        return _same_values(str(ours["value"].parts[0]), str(theirs["value"].parts[0]))
    if "ratio" in ours and "value" in theirs:
        return _same_values(r"\frac{{{}}}{{{}}}".format(*ours["ratio"].parts), str(theirs["value"].parts[0]))
    if common is not None:
        return "equal" if _agree(ours[common], theirs[common]) else "different"
    if "words" in theirs and not theirs.keys() & {"value", "letters"}:
        return "unreadable"
    if "members" in theirs and "value" in ours:  # one value, spelt several ways
        return "equal" if all(_same_part(gold, part) for part in theirs["members"].parts) else "different"
    one_is_plain = "value" in ours or "value" in theirs
    return "equal" if one_is_plain and _by_math_verify(tidy(gold), tidy(answer)) else "different"


def _agree(ours: Reading, theirs: Reading) -> bool:
    """The same mark, and the same parts: each at its place, or each once in any order."""
    if ours.mark != theirs.mark or len(ours.parts) != len(theirs.parts):
        return False
    if ours.ordered:
        return all(_same_part(*pair) for pair in zip(ours.parts, theirs.parts, strict=True))
    left = list(theirs.parts)
    for part in ours.parts[:MOST]:
        match = next((other for other in left if _same_part(part, other)), None)
        if match is None:
            return False
        left.remove(match)
    return len(ours.parts) <= MOST


def _same_part(ours: str | Reading, theirs: str | Reading) -> bool:
    if isinstance(ours, Reading) or isinstance(theirs, Reading):
        return isinstance(ours, Reading) and isinstance(theirs, Reading) and _agree(ours, theirs)
    return compare(ours, theirs) == "equal"


# -- quantities ---------------------------------------------------------------------------------------------------------


_NAMES = {
    "cm": "cm centimeter centimetre", "mm": "mm millimeter millimetre", "km": "km kilometer kilometre", "m": "m meter metre",
    "nm": "nm nanometer nanometre", "inch": "in inch inche", "ft": "ft foot feet", "yard": "yd yard", "mile": "mi mile",
    "degree": "degree deg", "radian": "radian rad", "arcminute": "'", "h": "h hour hr", "min": "min minute",
    "s": "s sec second", "ms": "ms millisecond", "day": "day", "week": "week", "month": "month", "year": "year yr",
    "kg": "kg kilogram", "g": "g gram", "mg": "mg milligram", "lb": "lb pound", "ounce": "oz ounce", "l": "l liter litre",
    "ml": "ml milliliter millilitre", "dollar": "dollar $ usd", "cent": "cent ¢", "euro": "€ eur euro", "pound sterling": "£",
    "J": "j joule", "kJ": "kj kilojoule", "N": "n newton", "W": "w watt", "V": "v volt", "K": "k kelvin", "Pa": "pa pascal",
    "Hz": "hz hertz", "mol": "mol mole", "eV": "ev", "MeV": "mev", "GeV": "gev", "kPa": "kpa", "atm": "atm", "C": "c coulomb",
    "A": "amp ampere", "T": "tesla", "mph": "mph",
}  # fmt: skip
UNITS = {spelling: name for name, spellings in _NAMES.items() for spelling in spellings.split()}
_SHORT = "cm|mm|km|nm|m|in|ft|yd|mi|s|h|hr|kg|g|mg|lb|oz|ml|L|J|kJ|N|W|V|K|Pa|Hz|eV"
_WORD = (
    r"(?:\\text\{(?:[^{}]|\{[^{}]*\})*\}|(?<![a-zA-Z\\])[a-zA-Z]{3,}\.?(?![a-zA-Z({])"
    rf"|\\Omega(?![a-zA-Z])|(?<![a-zA-Z\\])(?:{_SHORT})(?![a-zA-Z({{]))"
)
_POWER = r"(?:\s*\^\s*(?:-?\d|\{\s*-?\d\s*\}))?"
_UNIT = re.compile(
    rf"(?<=[\d)}}\]!a-z'])\s*(?:/\s*|(?<=\s)|(?=\\text))({_WORD}{_POWER}(?:\s*(?:(?:/|\\cdot)\s*)?{_WORD}{_POWER})*)$"
)
_PERCENT = re.compile(r"\s*(?:\\?%|\\text\{\s*%\s*\}|(?:\\text\{\s*)?(?:percent|per cent)(?:\s*\})?)\s*$")


_DEGREE = (("degree", 1),)


class Quantity(NamedTuple):
    """An expression and what stands behind or before it."""

    text: str
    unit: tuple[tuple[str, int], ...] | None
    """Names with powers; empty where there is none, None where one has no known name ("apples")."""
    percent: bool = False


def quantity(text: str) -> Quantity:
    """An expression apart from its unit, currency or per cent sign."""
    text = re.sub(r"^\s*(?:\\text\{\s*)?(?:about|approximately|roughly|around)(?:\s*\})?\s*", "", text)
    percent = bool(_PERCENT.search(text))
    text = _PERCENT.sub("", text)
    unit: tuple[tuple[str, int], ...] | None = ()
    if money := re.match(r"^(-?)\s*(?:US)?(?:\\\$|\$|€|£|\\text\{\s*(?:USD|EUR|\\?\$)\s*\}|USD|EUR)\s*", text):
        sign = next(found for found in ("€", "£", "EUR", "$") if found in money[0].replace("USD", "$"))
        text, unit = money[1] + text[money.end() :], ((UNITS[sign.lower()], 1),)
    text = re.sub(r"(?<=\d)\s*(?:\\\$|€)$", "", text)
    turned = re.search(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-zA-Z])", text)  # whose argument the degrees are
    if not turned and (arc := re.search(r"(?:\^\\circ|(?<=\d)')\s*(\\text\{\s*[CF]\s*\}|[CFK])?\s*$", text)):
        name = "degree" + re.sub(r"[^CFK]", "", arc[1]) if arc[1] else ("degree" if "circ" in arc[0] else "arcminute")
        return Quantity(text[: arc.start()].strip(), ((name, 1),))
    if found := _UNIT.search(text):
        text, words = text[: found.start()].strip(), unworded(found[1])
        for scale, factor in SCALES.items():
            if words.split(" ")[0].casefold() == scale:
                text, words = f"{text} \\times {factor}", words[len(scale) :].strip()
        unit = _unit(words) if words else unit
    return Quantity(text.strip(), unit, percent)


def _unit(words: str) -> tuple[tuple[str, int], ...] | None:
    """`m/s^2`, `meters per second squared`, `square feet` as names with powers; None where a name is not known."""
    words = re.sub(r"(\w+)\s+squared", r"\1^2", re.sub(r"(\w+)\s+cubed", r"\1^3", words.casefold()))
    words = re.sub(r"\b(?:square|sq\.?)\s+(\w+)", r"\1^2", re.sub(r"\b(?:cubic|cu\.?)\s+(\w+)", r"\1^3", words))
    powers: dict[str, int] = {}
    below = 1
    for token in re.findall(r"/|per\b|[^\s/^\\]+(?:\s*\^\s*\{?\s*-?\d\s*\}?)?", words.replace(r"\cdot", " ")):
        if token in ("/", "per"):
            below = -1
            continue
        name, _, power = re.sub(r"[\s{}.]", "", token).partition("^")
        known = UNITS.get(name) or UNITS.get(re.sub(r"s$", "", name))
        if known is None:
            return None if name not in ("unit", "units") else ()
        powers[known] = powers.get(known, 0) + below * int(power or 1)
    return tuple(sorted(powers.items()))


def _same_values(gold: str, answer: str) -> Verdict:
    if r"\approx" in answer:  # either side may be what was asked for
        said = [part for part in answer.split(r"\approx") if part.strip()]
        return next((verdict for part in said if (verdict := _same_values(gold, part)) == "equal"), "different")
    ours, theirs = map(quantity, _sides(gold, answer))
    if ours.unit and theirs.unit and ours.unit != theirs.unit:
        names = {unit[0][0] for unit in (ours.unit, theirs.unit)}
        if "degree" not in names or not names <= {"degree", "degreeC", "degreeF"}:
            return "different"
    degrees = [side.unit == _DEGREE for side in (ours, theirs)]
    if any(degrees) and not all(degrees) and any(r"\pi" in side.text for side in (ours, theirs)):
        ours, theirs = (
            side._replace(text=f"({side.text})\\frac{{\\pi}}{{180}}") if degree else side
            for side, degree in zip((ours, theirs), degrees, strict=True)
        )
    if _same_expression(ours.text, theirs.text):
        return "equal"
    if ours.percent != theirs.percent:
        one, other = (f"\\frac{{{side.text}}}{{100}}" if side.percent else side.text for side in (ours, theirs))
        if _same_expression(one, other):
            return "equal"
    words = not re.search(r"\d", theirs.text) and re.search(r"\d", ours.text) and re.search(r"\\text|[a-zA-Z]{4}", answer)
    return "unreadable" if words else "different"


def _sides(gold: str, answer: str) -> tuple[str, str]:
    """Two equations as they are; else of each what it says the value is, without names and words before it."""
    ours, theirs = (_unled(text) for text in (gold, answer))
    if "=" in ours and "=" in theirs:
        functions = [re.fullmatch(r"[a-zA-Z](\([a-z]\))?\s*=\s*([^=]+)", text) for text in (ours, theirs)]
        if functions[0] and functions[1] and (functions[0][1] or functions[1][1]):  # f(x) = and y =
            return functions[0][2], functions[1][2]
        return ours, theirs
    return _value(ours), _value(theirs)


def _unled(text: str) -> str:
    """Without words before it, and without the exact value's decimals or the modulus behind it."""
    text = re.sub(r"^\\text\{[^{}]*\}\s*[:=]?\s*(?=[-\d\\$(])", "", text)
    text = re.sub(r"\s*\(?\s*(?:\\pmod|\\bmod)\s*\{?\d+\}?\)?$", "", re.sub(r"^\\?[a-zA-Z]\s*\\equiv\s*", "", text))
    return re.sub(r"^\\approx\s*|(?<=\S)\s*\\approx.*", "", text)


def _value(text: str) -> str:
    """The side of an equation that says the value: of x = 8, f(3) = 8, 4 + 4 = 8 and 8 = x."""
    sides = [side.strip() for side in re.split("(?<![<>])=", text)]
    return sides[0] if re.fullmatch(r"\\?[a-zA-Z]", sides[-1]) else sides[-1]


# -- expressions ----------------------------------------------------------------------------------------------------------


_ENDLESS = re.compile(r"([-+]?)(\d*)\.(?:(\d*?)\\overline\s*\{(\d+)\}|(\d*?)(\d{1,6}?)\6{2,}\s*(?:\\l?dots|\.\.\.))")
"""0.1\\overline{6}, or a period written three times and dots."""
_FRACTION = re.compile(r"([-+]?)\s*(?:(\d+)\s*\+?\s*)??(-?)\\frac\s*\{\s*(-?\d+)\s*\}\s*\{\s*(-?\d+)\s*\}")
_SLASHED = re.compile(r"([-+]?)\s*(?:(\d+)\s*(?:\+|\s)\s*)??()(\d+)\s*/\s*(-?\d+)")


def rational(text: str) -> Fraction | None:
    """An integer, decimal, fraction, mixed number or power of ten as it is written; None for anything else."""
    bare = re.sub(r"\s+", " ", text.strip().strip("()")).replace("{,}", ",")
    if re.fullmatch(r"[-+]?\d{1,3}(?:[, ]\d{3})+(?:\.\d+)?", bare):
        bare = re.sub("[, ]", "", bare)
    if bare.casefold().replace("-", " ") in COUNTS:
        return Fraction(COUNTS[bare.casefold()])
    if ten := re.fullmatch(
        r"([-+]?(?:\d+\.?\d*|\.\d+))\s*(?:(?:\\times|\\cdot|\*|x)\s*10\s*\^\s*\{?\s*|[eE])([-+]?\d{1,3})\}?", bare
    ):
        return Fraction(ten[1]) * Fraction(10) ** int(ten[2])
    if re.fullmatch(r"[-+]?(?:\d+\.?\d*|\.\d+)", bare) and len(bare) < 400:
        return Fraction(bare.rstrip("."))
    if endless := _ENDLESS.fullmatch(bare):
        sign, whole, before, period = endless[1], endless[2], endless[3] or endless[5] or "", endless[4] or endless[6]
        tail = Fraction(int(period), (10 ** len(period) - 1) * 10 ** len(before))
        value = Fraction(f"{whole or 0}.{before or 0}") + tail
        return -value if sign == "-" else value
    if mixed := _FRACTION.fullmatch(bare) or _SLASHED.fullmatch(bare):
        sign, whole, minus, over, under = mixed.groups()
    else:
        return None
    if not int(under) or (whole and minus):
        return None
    value = int(whole or 0) + Fraction(int(over), int(under)) * (-1 if minus else 1)
    return -value if sign == "-" else value


def _written(text: str) -> str:
    """As math-verify reads it: mixed numbers as sums, thousands without commas, words of a calculator as LaTeX."""
    text = re.sub(r"(?<![\d.])\d{1,3}(?:[, ]\d{3})+(?!\d)", lambda found: re.sub("[, ]", "", found[0]), WORDS.sub(r"\1", text))
    text = re.sub(r"(\d+(?:\.\d+)?)\s*\^\\circ", r"\\frac{\1\\pi}{180}", text)
    text = re.sub(r"(?<![\d.}^_])(-?)(\d+)\s*\\frac\s*\{(\d+)\}\s*\{(\d+)\}", r"\1(\2+\\frac{\3}{\4})", text)
    text = re.sub(r"(?<![\d.])\.(?=\d)", "0.", re.sub(r"(?<=\d)\s*[xX]\s*(?=10\s*\^)", r"\\times ", text))
    text = re.sub(r"(?<![a-zA-Z\\])(pi|sqrt|infty|infinity|inf|oo|sin|cos|tan|ln|log)(?![a-zA-Z])", _named_sign, text)
    return re.sub(r"\\sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}", text).replace("**", "^")


def _named_sign(found: re.Match[str]) -> str:
    return {"infinity": r"\infty ", "inf": r"\infty ", "oo": r"\infty "}.get(found[1], f"\\{found[1]} ")


def _same_expression(gold: str, answer: str) -> bool:
    if same_text(gold, answer):
        return True
    ours, theirs = rational(gold), rational(answer)
    if ours is not None and theirs is not None:
        return ours == theirs
    if _case(gold) != _case(answer) and _case(gold.lower()) == _case(answer.lower()):
        return False  # r and R are two things; math-verify reads both in lower case
    return _by_math_verify(gold, answer)


def _case(text: str) -> set[str]:
    """The letters that stand for something by themselves."""
    return set(re.findall(r"(?<![a-zA-Z\\])[a-zA-Z](?![a-zA-Z])", re.sub(r"(?<=\d)(?=[a-zA-Z])", " ", text))) - set("eEiI")


def _by_math_verify(gold: str, answer: str) -> bool:
    """math-verify's word on two expressions without units; where it does not see it, their values at points."""
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

    as_it_is = LatexExtractionConfig(
        normalization_config=NormalizationConfig(malformed_operators=True, nits=True, boxed="last")
    )
    boxes = [f"\\boxed{{{_written(text)}}}" for text in (gold, answer)]
    ours, theirs = (parse(box, [as_it_is, ExprExtractionConfig()], parsing_timeout=None) for box in boxes)
    if not ours or not theirs:
        return False
    if (gap := _gap(ours[0], theirs[0])) is not None:  # 2^{50} + 1 and 2^{50} are alike to more digits than it compares
        return gap == 0
    return bool(verify(ours, theirs, timeout_seconds=None, allow_set_relation_comp=True)) or _same_at_points(ours[0], theirs[0])


def _gap(ours: Any, theirs: Any) -> Fraction | None:
    """By how much two constants differ, where that is a rational number."""
    import sympy

    if not all(isinstance(side, sympy.Expr) and not side.free_symbols for side in (ours, theirs)):
        return None
    gap = (ours - theirs).doit()  # parsed powers are not evaluated yet
    return Fraction(int(gap.p), int(gap.q)) if gap.is_Rational else None


def _same_at_points(ours: Any, theirs: Any, points: int = 4) -> bool:
    """Two expressions agree at random rational points of either sign; of two equations the differences are proportional."""
    import sympy

    parts: list[tuple[Any, ...]] = [side.args if isinstance(side, sympy.Eq) else (side,) for side in (ours, theirs)]
    if len(parts[0]) != len(parts[1]) or not all(isinstance(part, sympy.Expr) for side in parts for part in side):
        return False
    sides = [side[0] - side[1] if len(side) == 2 else side[0] for side in parts]
    constants = {"i": sympy.I, "e": sympy.E, "pi": sympy.pi}
    first, second = (side.subs({s: constants[s.name] for s in side.free_symbols if s.name in constants}) for side in sides)
    names = sorted({symbol.name for symbol in first.free_symbols})
    if names != sorted({symbol.name for symbol in second.free_symbols}):
        return False
    draw = random.Random(0)  # noqa: S311  # points, not secrets
    values = []
    for _ in range(points if names else 1):
        place = {name: sympy.Rational(draw.choice((-1, 1)) * draw.randint(101, 999), 331) for name in names}
        values.append([side.subs({s: place[s.name] for s in side.free_symbols}) for side in (first, second)])
    if len(parts[0]) == 2:
        (one, other), *rest = values
        return bool(rest) and one != 0 != other and all(_close(one * right, left * other) for left, right in rest)
    return all(_close(left, right) for left, right in values)


def _close(one: Any, other: Any) -> bool:
    """Two numbers are equal: exactly where their difference is rational, else to 12 digits."""
    try:
        gap = (one - other).doit()
        if gap.is_Rational:
            return bool(gap == 0)
        left, right, apart = (complex(number.evalf(20)) for number in (one, other, gap))
    except (TypeError, ValueError, ArithmeticError):
        return False
    return all(map(cmath.isfinite, (left, right, apart))) and abs(apart) <= 1e-12 * max(abs(left), abs(right))
