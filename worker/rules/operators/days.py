"""Days that are left out: weekends, listed dates, a holiday list of the catalog, public holidays of a country."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Any

from worker.rules.ir import Days
from worker.rules.operators.calendar import holidays_version, is_country
from worker.rules.operators.place import Place, described, sentence

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")
_MOST = 10_000
_HELP = 'Write dates such as ["2026-12-25"], the name of a holiday list of the catalog, or a country such as "DE-BY".'


def read_days(written: Mapping[str, Any], place: Place, *, weekends: bool, holidays: bool, switch: str) -> Days | None:
    """The days to leave out. `holidays` is whether `switch` says that the list under `holidays` counts.

    A list without the switch, or the switch without a list, leaves nothing out; a warning says so.
    """
    listed: list[Any] = []
    if "holidays" in written:
        value = written["holidays"]
        listed = value if isinstance(value, list) else [value]
        if not holidays:
            place.at("holidays").fault(
                "no_effect", f"Without {switch} no holiday is left out.", f"Write {switch}: true.", severity="warning"
            )
    elif holidays and switch == "excludeHolidays":
        place.at(switch).fault("no_effect", "There are no holidays to leave out.", _HELP, severity="warning")
    found = _read(listed, place.at("holidays"), single=not isinstance(written.get("holidays"), list))
    if found is None:
        return None
    dates, countries = found if holidays else ((), ())
    return Days(weekends, dates, countries)


def _read(items: list[Any], place: Place, *, single: bool) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    if len(items) > _MOST:
        place.fault("bad_operand", f"There are more than {_MOST:,} holidays here.", _HELP)
        return None
    dates: set[str] = set()
    countries: set[str] = set()
    whole = True
    for index, item in enumerate(items):
        if isinstance(item, str) and is_date(item):
            dates.add(item)
        elif isinstance(item, str) and (named := place.names.holidays(item)) is not None:
            dates.update(named)
        elif isinstance(item, str) and is_country(item):
            countries.add(f"{item}@{holidays_version()}")
        else:
            whole = False
            here = place if single else place.at(index)
            here.fault("bad_operand", f"{sentence(described(item))} names no holidays.", _HELP)
    return (tuple(sorted(dates)), tuple(sorted(countries))) if whole else None


def is_date(text: str) -> bool:
    """Whether a text is a date of the calendar, as 2026-12-25."""
    if _DATE.match(text) is None:
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
