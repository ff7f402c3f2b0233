"""The kinds of animation a badge can have, told here alone.

The page plays what it is given, whatever the kind is called: `particles` fall over the stage, a film at `url` is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind: what it shows in words, and the keys of a badge's `animation` that it takes, or needs, beside `kind`.

    What it takes has the value that holds where the badge says none; None where nothing does.
    """

    words: str
    takes: Mapping[str, int | None] = field(default_factory=dict)
    needs: tuple[str, ...] = ()


KINDS: Final[Mapping[str, Kind]] = {
    "none": Kind("The badge alone, still."),
    "confetti": Kind("Confetti falls over the badge.", {"particles": 120}),
    "webm": Kind("A film of the address `url` plays once.", {"url": None}, needs=("url",)),
}


#: What forms offer: kinds that need no other key. One that does is written in the catalog, and stays as it is.
CHOICES: Final = tuple(name for name, kind in KINDS.items() if not kind.needs)


def shown(animation: Mapping[str, Any] | None, kind: str = "") -> dict[str, Any]:
    """What the page plays: the kind asked for, else the badge's own; a kind that is not known is shown as none."""
    own = dict(animation or {})
    name = kind or str(own.get("kind", "none"))
    if name not in KINDS:
        return {"kind": "none", "unknown": name}
    found: dict[str, Any] = {"kind": name}
    for key, usual in KINDS[name].takes.items():
        value = own.get(key, usual)
        if key == "url" and not (isinstance(value, str) and value.startswith("https://")):
            continue
        if isinstance(value, str | int):
            found[key] = value
    return found
