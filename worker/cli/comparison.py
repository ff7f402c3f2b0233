"""A comparison of catalogs and a preview of its population, as lines for people and as data for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from worker.cli.output import table
from worker.printable import printable

if TYPE_CHECKING:
    from worker.app import Difference
    from worker.rules.compare import BadgeChange, Named, Phrases
    from worker.rules.preview import Gain, Preview

_SIGNS = {"added": "+", "display": "~", "test": "~", "status": "~", "deprecated": "-"}
_COLORS = {"+": "green", "~": "yellow", "-": "red"}
#: So many badges of a ladder are named beside the first.
_MOST_NAMED = 5
_Line = tuple[str, str, str, str]


def change_lines(found: Difference, *, width: int | None) -> Iterator[str]:
    """What changes, sign and key first, in the order: added, display only, test, status, deprecated; then the rest."""
    from worker.rules.compare import Phrases

    phrases = Phrases(found.old, found.new)
    rows: list[tuple[_Line, list[str]]] = []
    rows += [
        (_line(found, group, phrases), list(_warnings(found, group[0], phrases)))
        for group in _grouped(_in_order(found))
    ]
    rows += [(_named(one, "metric"), []) for one in found.changed.metrics]
    rows += [(_named(one, "event type"), []) for one in found.changed.events]
    rows += [(_named(one, "setting"), []) for one in found.changed.settings]
    widest = [max((len(line[place]) for line, _ in rows), default=0) for place in (1, 2)]
    for (sign, key, what, note), warnings in rows:
        text = f"{sign} {key:<{widest[0]}}  {what:<{widest[1]}}  {note}".rstrip()
        text = text if width is None or len(text) <= width else text[: width - 1] + "…"
        yield click.style(sign, fg=_COLORS[sign]) + printable(text[1:])
        yield from warnings


def _in_order(found: Difference) -> list[BadgeChange]:
    """The changes by kind, then as the catalog has them."""
    return sorted(found.changed.badges, key=lambda change: tuple(_SIGNS).index(change.kind))


def _grouped(changes: Sequence[BadgeChange]) -> Iterator[list[BadgeChange]]:
    """The badges of a ladder together where the same happened to them; where tests changed each stands alone."""
    groups: dict[Any, list[BadgeChange]] = {}
    for change in changes:
        alone = change.ladder is None or change.kind == "test"
        groups.setdefault(change.key if alone else (change.kind, change.ladder), []).append(change)
    yield from groups.values()


def _line(found: Difference, group: Sequence[BadgeChange], phrases: Phrases) -> _Line:
    change, others = group[0], group[1:]
    what, note = change.label, "display only"
    match change.kind:
        case "added":
            note = phrases.new(change.new) if change.new is not None else ""
            note = next((_levels(one) for one in found.changed.ladders if one.name == change.ladder), note)
        case "test":
            what, note = " -> ".join(phrases.changed(change)), "test"
        case "display" if change.display and not {"label", "tier"} & set(change.display):
            what, note = ", ".join(change.display), "display only"
        case "status" if change.old is not None and change.new is not None:
            note = f"{change.old.status} -> {change.new.status}"
        case "deprecated":
            held = found.given.get(change.key, 0)
            gone = "not in the new catalog; " if change.new is None else ""
            note = f"deprecated: {gone}its {held:,} award{'' if held == 1 else 's'} stay"
    named = [f"{other.key}{_after(other)}" for other in others[:_MOST_NAMED]]
    if len(others) > _MOST_NAMED:
        named.append(f"{len(others) - _MOST_NAMED:,} more")
    return _SIGNS[change.kind], change.key, what, note + (f"; also {'; '.join(named)}" if others else "")


def _after(change: BadgeChange) -> str:
    before, arrow, after = change.label.partition(" -> ")
    return f", {before.rpartition(' ')[2]} -> {after}" if arrow else ""


def _levels(one: Named) -> str:
    return f"ladder levels {one.old} -> {one.new}" if one.old else f"ladder levels {one.new}"


def _named(one: Named, what: str) -> _Line:
    if one.sign == "~":
        return one.sign, one.name, f"{what} changed", f"{one.old} -> {one.new}"
    return one.sign, one.name, f"{what}{'' if one.sign == '+' else ' left out'}", one.new if one.sign == "+" else ""


def _warnings(found: Difference, change: BadgeChange, phrases: Phrases) -> Iterator[str]:
    from worker.rules.compare import in_place

    count, edited = found.given.get(change.key, 0), in_place(change, phrases)
    if edited is not None and count:
        yield f"    {click.style('warning', fg='yellow')} changed_in_place: {edited.sentence(count)}"
        yield f"    help: {edited.help}"


def in_place_notices(found: Difference) -> Iterator[str]:
    """The warnings of `change_lines` alone, for who applies without a look."""
    from worker.rules.compare import Phrases, in_place

    phrases = Phrases(found.old, found.new)
    for change in found.changed.badges:
        count, edited = found.given.get(change.key, 0), in_place(change, phrases)
        if edited is not None and count:
            yield f"warning: changed_in_place {change.key}: {edited.sentence(count)}\n  help: {edited.help}"


def population_lines(
    found: Difference, playing: Preview, total: int, seconds: float, *, asked: int | None, width: int | None
) -> list[str]:
    """The figures of each badge, whom it would be given to first, and why nobody would get it."""
    order = {change.key: place for place, change in enumerate(_in_order(found))}
    gains = sorted(playing.gains.values(), key=lambda gain: order.get(gain.badge.key, len(order)))
    return gain_lines(playing, gains, total, seconds, asked=asked, width=width)


def gain_lines(
    playing: Preview, gains: Sequence[Gain], total: int, seconds: float, *, asked: int | None, width: int | None
) -> list[str]:
    """The same of some badges, in the order given."""
    from worker.cli.output import span

    read = f"{total:,} user{'' if total == 1 else 's'}, {playing.events:,} event{'' if playing.events == 1 else 's'}"
    lines = [f"Population: {read} read in {span(seconds)}"]
    lines += table([_figures(gain) for gain in gains], _COLUMNS, width=width)
    for gain in gains:
        if gain.awards:
            named = gain.samples if asked is None else gain.samples[:asked]
            left = gain.users - len(named)
            more = f", {left:,} more (--samples all)" if left else ""
            if named:
                lines.append(printable(f"  {gain.badge.key}: {' '.join(user for _, user in named)}{more}"))
        else:
            lines.append(printable(f"  {gain.badge.key}: 0 users: {why_nobody(playing, gain)}"))
    return lines


_COLUMNS = ["", "would gain", "users", "new holders", "close (80 %)", "earned between"]


def _figures(gain: Gain) -> dict[str, Any]:
    close = f"{gain.close:,}{_contexts(gain)}"
    first, last = _day(gain.first_us), _day(gain.last_us)
    return {
        "": gain.badge.key,
        "would gain": gain.awards,
        "users": gain.users,
        "new holders": gain.new_holders,
        "close (80 %)": close,
        "earned between": f"{first} and {last}" if first else "",
    }


def _contexts(gain: Gain) -> str:
    """What is counted where a badge is given per value: posts for `post_id`."""
    if gain.badge.per is None:
        return ""
    name = gain.badge.per.rpartition(".")[2].removesuffix("_id")
    return f" {name}" if gain.close == 1 or name.endswith("s") else f" {name}s"


def _day(at_us: int | None) -> str:
    from worker.rules.phrases import short_instant

    return "" if at_us is None else short_instant(at_us)[:10]


def why_nobody(playing: Preview, gain: Gain) -> str:
    """Whether what the badge looks at never happened, or happened without being enough."""
    triggers = sorted(gain.badge.triggers - {"*"})
    unseen = [name for name in triggers if name not in playing.seen]
    if not playing.events or (triggers and len(unseen) == len(triggers)):
        named = " and ".join(triggers) or "no event"
        return f"{named} {'were' if len(triggers) > 1 else 'was'} never seen"
    if gain.holding:
        return f"whoever earned it holds it already, {gain.holding:,} user{'' if gain.holding == 1 else 's'}"
    return f"{' and '.join(triggers) or 'activity'} {'were' if len(triggers) > 1 else 'was'} seen, none matched"


def plan_line(found: Difference, awards: int | None) -> str:
    """The sum: what would be done."""
    count = found.changed.count
    done = [
        f"{count('added'):,} to add",
        f"{count('test'):,} test{'' if count('test') == 1 else 's'} changed",
        f"{count('display'):,} relabelled",
        *([f"{count('status'):,} of another status"] if count("status") else []),
        f"{count('deprecated'):,} to deprecate",
    ]
    given = "" if awards is None else f"; {awards:,} award{'' if awards == 1 else 's'}, quietly; nobody loses one"
    return f"Plan: {', '.join(done)}{given}."


def as_data(found: Difference, playing: Preview | None, total: int) -> dict[str, Any]:
    """All of it for programs: raw figures, instants as RFC 3339."""
    from worker.rules.compare import Phrases

    phrases = Phrases(found.old, found.new)
    changed = found.changed
    return {
        "against": None if found.head is None else found.head.version,
        "differs": not found.same,
        "builds": found.builds,
        "badges": [_change(found, one, phrases) for one in changed.badges],
        **{
            name: [_pair(one) for one in getattr(changed, name)]
            for name in ("ladders", "metrics", "events", "settings")
        },
        "population": None if playing is None else population_data(playing, total),
    }


def _change(found: Difference, one: BadgeChange, phrases: Phrases) -> dict[str, Any]:
    return {
        "key": one.key,
        "change": one.kind,
        "ladder": one.ladder,
        "label": one.new.label if one.new is not None else one.label,
        "takes": {
            "old": None if one.old is None else phrases.old(one.old),
            "new": None if one.new is None else phrases.new(one.new),
        },
        "status": {
            "old": None if one.old is None else one.old.status,
            "new": "deprecated" if one.new is None else one.new.status,
        },
        "test_changed": one.test,
        "display": list(one.display),
        "awards_given": found.given.get(one.key, 0) if one.test or one.kind == "deprecated" else None,
    }


def _pair(one: Named) -> Mapping[str, str]:
    return {
        "name": one.name,
        "change": {"+": "added", "~": "changed", "-": "left out"}[one.sign],
        "old": one.old,
        "new": one.new,
    }


def population_data(playing: Preview, total: int) -> dict[str, Any]:
    """A preview for programs."""
    from worker.rules.phrases import short_instant

    return {
        "users": total,
        "events": playing.events,
        "badges": [
            {
                "key": gain.badge.key,
                "would_gain": gain.awards,
                "users": gain.users,
                "new_holders": gain.new_holders,
                "close": gain.close,
                "first": None if gain.first_us is None else short_instant(gain.first_us),
                "last": None if gain.last_us is None else short_instant(gain.last_us),
                "samples": [user for _, user in gain.samples],
                "why": None if gain.awards else why_nobody(playing, gain),
            }
            for gain in playing.gains.values()
        ],
    }
