"""The words that every report uses: numbers, lists and foreign text as people read them.

Here: text from records, the same for the console and every file. Not here: the verdict as a sentence
(`headline`), layout of any kind.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from siglip_verify.records import Cell, Quantity, Share

QUANTITIES: Mapping[Quantity, str] = {
    "loss": "loss",
    "local_loss": "local loss",
    "image_grad": "image gradient",
    "text_grad": "text gradient",
    "scale_grad": "scale gradient",
    "bias_grad": "bias gradient",
    "local_scale_grad": "local scale gradient",
    "local_bias_grad": "local bias gradient",
}
NOTHING = "-"
_CHARS_A_VALUE = 2_000
_CHARS_A_LINE = 400


# ------------------------------------------------------------------ numbers and lists
def plural(number: int, noun: str) -> str:
    """Say `1 case`, `1,204 cases`, `2 losses`."""
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{ending}"


def ranges(numbers: Iterable[int]) -> str:
    """Say 1, 2, 3, 5 as `1..3, 5`."""
    runs = groupby(enumerate(sorted(set(numbers))), key=lambda pair: pair[1] - pair[0])
    ends = [[number for _, number in run] for _, run in runs]
    said = (f"{run[0]}..{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in ends)
    return ", ".join(said) or "none"


def share(value: float) -> str:
    """Say a share of a bound in few characters: `0.412`, `12.500`, `4.1e14`."""
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    if abs(value) >= 1000:
        return f"{value:.1e}".replace("e+0", "e").replace("e+", "e")
    if 0 < value < 0.0005:
        return "<0.001"
    said = f"{value:.3f}"
    return said if said != "1.000" or value == 1 else "<1.000" if value < 1 else ">1.000"


def exact(value: float | None) -> str:
    """Say a number with every digit that it has."""
    return "nothing" if value is None else repr(value)


def count(value: int | None) -> str:
    """Say a whole number with its thousands apart; a dash where there is none."""
    return NOTHING if value is None else f"{value:,}"


def seconds(value: float) -> str:
    """Say a duration."""
    return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"


def milliseconds(value: float) -> str:
    """Say a duration in seconds as milliseconds, in three digits."""
    return f"{value * 1e3:.3g}" if value < 1 else f"{value * 1e3:,.0f}"


def short_time(value: float) -> str:
    """Say a duration in few characters: `4 ms`, `0.25 s`, `30 us`."""
    return _in_units(value, ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")))


def num_bytes(value: float) -> str:
    """Say a number of bytes in few characters: `17.5 kB`."""
    return _in_units(value, ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B")))


def _in_units(value: float, units: Sequence[tuple[float, str]]) -> str:
    """Say a value in the largest unit of which it has at least one, in three digits; 0 without a unit."""
    if not value:
        return "0"
    size, unit = next((each for each in units if abs(value) >= each[0] * (1 - 1e-9)), units[-1])
    scaled = value / size
    return f"{scaled:,.0f} {unit}" if abs(scaled) >= 100 else f"{scaled:.3g} {unit}"


def rate(cases: int, elapsed_s: float) -> str:
    """Say how many cases were judged per second."""
    return f"{cases / elapsed_s:.1f} cases per second" if elapsed_s > 0 else "no time taken"


class Nearest(NamedTuple):
    """The share that came nearest to its bound, or went farthest beyond it, and where."""

    share: float
    quantity: Quantity
    case: str


def nearest(cells: Iterable[Cell]) -> Nearest | None:
    """Pick the worst share of all quantities in some cells."""
    found = [Nearest(worst.share, quantity, worst.case) for cell in cells for quantity, worst in cell.worst.items()]
    return max(found, key=lambda each: severity(each.share), default=None)


def nearest_in_words(found: Nearest) -> str:
    """Say which quantity took what share of its bound."""
    return f"{QUANTITIES[found.quantity]}, {share(found.share)} of its bound"


def worst_share(shares: Collection[Share]) -> Share | None:
    """Pick the share to show first: one that is not a number, else the largest."""
    return max(shares, key=lambda found: severity(found.share), default=None)


def severity(value: float) -> float:
    """Rank shares: one that is not a number is as bad as can be."""
    return math.inf if math.isnan(value) else value


# ------------------------------------------------------------------ text from outside
def printable(text: str) -> str:
    """Make control characters visible, so that no text can steer a terminal or break an XML file."""
    return "".join(char if char in "\n\t" or char.isprintable() else _escaped(char) for char in text)


def one_line(text: str) -> str:
    """Make text printable on one line; what is very long is cut, and the cut is said."""
    return _cut(printable(" ".join(text.split())), _CHARS_A_VALUE)


def last_lines(text: str, limit: int) -> str:
    """Keep the last lines of a text, printable, and say how many were left out."""
    kept, left_out = _lines(text)[-limit:], len(_lines(text)) - limit
    return "\n".join([f"... {plural(left_out, 'line')} left out", *kept] if left_out > 0 else kept)


def first_lines(text: str, limit: int) -> str:
    """Keep the first lines of a text, printable, and say how many were left out."""
    kept, left_out = _lines(text)[:limit], len(_lines(text)) - limit
    return "\n".join([*kept, f"... {plural(left_out, 'line')} left out"] if left_out > 0 else kept)


def _lines(text: str) -> list[str]:
    return [_cut(printable(line), _CHARS_A_LINE) for line in text.rstrip().splitlines()]


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]} ... {len(text) - limit:,} characters left out"


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode()
