"""The kinds of animation a badge can have; a new kind is a line here and its function in `static/panel.js`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind: what it shows in words, and the keys of a badge's `animation` that it takes, or needs, beside `kind`."""

    words: str
    takes: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


KINDS: Final[Mapping[str, Kind]] = {
    "none": Kind("The badge alone, still."),
    "confetti": Kind("Confetti falls over the badge.", ("particles",)),
    "webm": Kind("A film of the address `url` plays once.", ("url",), needs=("url",)),
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
    for key in KINDS[name].takes:
        value = own.get(key)
        if key == "url" and not (isinstance(value, str) and value.startswith("https://")):
            continue
        if isinstance(value, str | int):
            found[key] = value
    return found
