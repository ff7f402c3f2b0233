"""Ladders, tenures and milestones to badges: keys, labels, tiers and sort scores from a compact description."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from worker.errors import Fault
from worker.rules.catalog.sections import KEY
from worker.rules.operators.place import described

#: The most levels or years of one generator.
MOST_STEPS = 1_000

_ROMAN = (
    (1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"),
    (50, "L"), (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Step:
    """One badge of a ladder or a tenure: its key, the figure to reach, where that stands, and its place in the row."""

    key: str
    figure: int | Decimal
    path: str
    index: int


def ladder_steps(entry: Mapping[str, Any], path: str, faults: list[Fault]) -> Iterator[Step]:
    """The steps of a ladder, `key_level`; `bad_levels` where the levels do not rise from above 0."""
    return _steps(entry, path, "levels", "", faults, whole=False)


def tenure_steps(entry: Mapping[str, Any], path: str, faults: list[Fault]) -> Iterator[Step]:
    """The steps of a tenure, `key_1y`; `bad_levels` where the years are not whole numbers that rise from above 0."""
    return _steps(entry, path, "years", "y", faults, whole=True)


def _steps(
    entry: Mapping[str, Any], path: str, name: str, suffix: str, faults: list[Fault], *, whole: bool
) -> Iterator[Step]:
    key = entry.get("key")
    for index, figure in enumerate(_figures(entry.get(name), f"{path}/{name}", name, faults, whole=whole)):
        if figure is None or not isinstance(key, str) or KEY.fullmatch(key) is None:
            continue
        full = f"{key}_{plain(figure)}{suffix}"
        here = f"{path}/{name}/{index}"
        if KEY.fullmatch(full) is None:
            faults.append(Fault("invalid_key", here, f"The key {full[:120]} is too long.", "Shorten the key."))
            continue
        yield Step(full, figure, here, index)


def _figures(written: Any, path: str, name: str, faults: list[Fault], *, whole: bool) -> Iterator[int | Decimal | None]:
    """The figures in order, None in place of a faulty one."""
    if written is None:
        return
    if not isinstance(written, list) or not written or len(written) > MOST_STEPS:
        said = f"{len(written):,} entries" if isinstance(written, list) and written else described(written)
        message = f"Rising numbers must stand here, not {said}."
        faults.append(Fault("bad_levels", path, message, f"Write {name}: [1, 5, 10], at most {MOST_STEPS:,}."))
        return
    before: int | Decimal | None = None
    for index, value in enumerate(written):
        figure = _figure(value, whole=whole)
        if figure is None:
            message = f"{described(value).capitalize()} is no {'whole ' if whole else ''}number above 0."
            faults.append(Fault("bad_levels", f"{path}/{index}", message, _better(written, whole=whole)))
        elif before is not None and figure <= before:
            message = f"{name.capitalize()} must rise: {plain(figure)} follows {plain(before)}."
            faults.append(Fault("bad_levels", f"{path}/{index}", message, _better(written, whole=whole)))
            figure = None
        else:
            before = figure
        yield figure


def _figure(value: Any, *, whole: bool) -> int | Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | Decimal) or not 0 < value <= 10**15:
        return None
    if value == int(value):
        return int(value)
    return None if whole or Decimal(value).as_tuple().exponent < -6 else value  # type: ignore[operator]


def _better(written: list[Any], *, whole: bool) -> str:
    known = sorted({figure for value in written if (figure := _figure(value, whole=whole)) is not None})
    return f"Write [{', '.join(plain(figure) for figure in known)}]." if known else "Write [1, 5, 10], for example."


def plain(figure: int | Decimal) -> str:
    """A figure in digits, without an exponent or trailing zeros."""
    return str(figure) if isinstance(figure, int) else format(figure.normalize(), "f")


def roman(number: int) -> str:
    """A tier as a Roman numeral, 1 to 3,999."""
    written = ""
    for value, letters in _ROMAN:
        while number >= value:
            written += letters
            number -= value
    return written


def worded(text: str, step: Step) -> str:
    """A text with `{level}` and `{tier}` filled in; `{since}` is the holder's own and stays."""
    return text.replace("{level}", plain(step.figure)).replace("{tier}", roman(step.index + 1))


def labelled(text: str, step: Step) -> str:
    """A ladder's label: with the tier behind it, unless the text says itself where level or tier belong."""
    return worded(text, step) if "{level}" in text or "{tier}" in text else f"{text} {roman(step.index + 1)}"
