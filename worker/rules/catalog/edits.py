"""One entry of a catalog written anew: the whole document as it is then, and where its faults lie in what was sent.

Entries are sent as people and older programs name their keys: `name` is a badge's label, `flow_definition` its flow,
`active` or `is_active` whether it is given. Documents are never changed in place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from worker.errors import AuthorError, BadgesError, Fault
from worker.events import json_text
from worker.rules.catalog.definitions import Badge
from worker.rules.catalog.document import escape, pointer_tokens
from worker.rules.operators.place import described, shown

Document = Mapping[str, Any]
Entry = Mapping[str, Any]

#: What a badge's answer holds beside its entry: taken back, so that an answer can be sent again, and not looked at.
BADGE_ANSWERS: Final = frozenset(
    {"id", "created_at", "updated_at", "holders", "share", "tier", "kind", "tooltip", "takes"}
)
#: The same of event types and condition types.
ANSWERS: Final = frozenset({"id", "created_at", "updated_at", "builtin"})

_NOT_IN_KEYS: Final = re.compile(r"[^a-z0-9.-]+")
_LONGEST_KEY: Final = 100
_NAMES: Final = {"name": "label", "flow_definition": "flow"}
_MILESTONE_NAMES: Final = {"name": "title", "label": "title", "key": "code"}
_FLAGS: Final = ("is_active", "active")
_EXAMPLE: Final = 'Write "flow_definition": {"event": "comment.posted", "criteria": {"score": {"$gte": 10}}}.'


class Taken(BadgesError):
    """The name belongs to another entry already; nothing was changed."""


class Nameless(BadgesError):
    """The name gives no key, and no other one was at hand: ask again with a spare one."""


class Fixed(BadgesError):
    """What is asked for cannot be done with an entry of this kind; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Edit:
    """A document with one entry written anew.

    `entry` is the pointer to the entry in the document ("" where it was taken out), `key` the name programs know it by.
    `names` are the entry's keys as they were sent.
    """

    document: dict[str, Any]
    entry: str
    key: str
    names: Mapping[str, str] = field(default_factory=dict)

    def told(self, faults: Sequence[Fault]) -> tuple[list[Fault], list[Fault]]:
        """The faults that lie in the entry, their pointers beginning at what was sent; and those of other places."""
        inside, outside = [], []
        for fault in faults:
            if fault.severity != "error":
                continue
            if self.entry and (fault.path == self.entry or fault.path.startswith(f"{self.entry}/")):
                inside.append(self._sent(fault))
            else:
                outside.append(fault)
        return inside, outside

    def _sent(self, fault: Fault) -> Fault:
        tokens = pointer_tokens(fault.path[len(self.entry) :])
        if not tokens:
            # Event types are keys of a map: what is wrong with the name is told of the whole entry.
            tokens = ["name"] if self.entry.startswith("/events/") else []
        else:
            tokens[0] = self.names.get(tokens[0], tokens[0])
        path = "".join(f"/{escape(token)}" for token in tokens)
        return replace(fault, path=path, file=None, line=None, column=None)


def key_of_name(name: str) -> str:
    """A badge's key from its name: lower-cased, each run of other characters one `_`, trimmed, cut; may be empty."""
    plain = _NOT_IN_KEYS.sub("_", name.lower()).strip("_.-")
    return plain[:_LONGEST_KEY].rstrip("_.-")


# -- badges ------------------------------------------------------------------------------------------------------------


def badge_added(document: Document, body: Any, *, spare: str | None = None) -> Edit:
    """The document with one badge more; `spare` is the key of one whose name gives none.

    Raises AuthorError for what is wrong with the form, Taken where key or name belong to another badge, Nameless where
    the spare key is needed and was not given.
    """
    sent = _object(body, "A badge")
    entry, names = _badge_entry(sent, _NAMES, {})
    faults = [] if "flow" in entry else [_no_flow(sent)]
    label, key = entry.get("label"), entry.get("key")
    if label is None and key is None:
        faults.append(Fault("missing_key", "", 'A badge has no "name".', 'Write "name": "Nice question".'))
    if faults:
        raise AuthorError(faults)
    if key is None:
        if not isinstance(label, str):
            message = f"A text must stand here, not {described(label)}."
            raise AuthorError([Fault("bad_operand", f"/{names['label']}", message, 'Write "Nice question".')])
        key = key_of_name(label) or spare
        if key is None:
            raise Nameless
        entry = {"key": key, **entry}
        names = {**names, "key": names["label"]}
    for other in _badge_names(document):
        if key in other or (label is not None and label in other):
            raise Taken(
                f"There is a badge {shown(str(other[0]))} already.", help="choose another name, or change that one"
            )
    listed = document.get("badges") or []
    return Edit({**document, "badges": [*listed, entry]}, f"/badges/{len(listed)}", str(key), names)


def badge_changed(document: Document, badge: Badge, body: Any, *, whole: bool) -> Edit:
    """The document with one badge changed: `whole` replaces it (flow and status stay where they are left out).

    Without `whole` the keys sent change, null takes one away. Raises AuthorError; Fixed for a badge that a ladder or a
    tenure makes, and for the rule of a milestone sent as a flow.
    """
    section, index = _place(badge)
    old: Entry = document[section][index]
    sent = _object(body, "A badge")
    milestone = section == "milestones"
    if milestone and (flow := sent.get("flow_definition", sent.get("flow"))) is not None:
        if not json_text.equal(flow, badge.flow):
            raise Fixed(
                f"{badge.key} is a milestone: its rule is no flow.", help="change trigger_event, rule_type, rule_data"
            )
        sent = {name: value for name, value in sent.items() if name not in ("flow_definition", "flow")}
    entry, names = _badge_entry(sent, {**_NAMES, **_MILESTONE_NAMES} if milestone else _NAMES, old)
    own = "code" if milestone else "key"
    if entry.get(own, badge.key) != badge.key:
        message = f"A badge keeps its key, which is {badge.key}."
        raise AuthorError([Fault("bad_operand", f"/{names[own]}", message, "Leave it out.")])
    if whole:
        kept = {"key", "flow", "status", "code", "trigger_event", "rule_type", "rule_data"}
        new = {name: value for name, value in old.items() if name in kept and name != "is_active"} | entry
        if milestone and "status" not in new and "is_active" in old:
            new["is_active"] = old["is_active"]
    else:
        gone = {_named(name, milestone=milestone) for name, value in sent.items() if value is None}
        if "flow" in gone:
            raise AuthorError([_no_flow(sent)])
        new = {name: value for name, value in old.items() if name not in gone - {own}} | entry
    if "status" in new and "is_active" in new:
        del new["is_active"]
    return _with_entry(document, section, index, new, badge.key, names)


def badge_deprecated(document: Document, badge: Badge) -> Edit:
    """The document with one badge that gives no new awards; its holders keep it. Raises Fixed as `badge_changed`."""
    section, index = _place(badge)
    old = {name: value for name, value in document[section][index].items() if name != "is_active"}
    return _with_entry(document, section, index, {**old, "status": "deprecated"}, badge.key, {})


def _badge_entry(sent: Entry, names: Mapping[str, str], old: Entry) -> tuple[dict[str, Any], dict[str, str]]:
    """An entry as the catalog writes it, and its keys as they were sent. Raises AuthorError where two say one thing."""
    entry: dict[str, Any] = {}
    written: dict[str, str] = {}
    faults = []
    for name, value in sent.items():
        if name in BADGE_ANSWERS or name in _FLAGS or (value is None and name not in ("flow_definition", "flow")):
            continue
        key = names.get(name, name)
        if key in entry and not json_text.equal(entry[key], value):
            message = f"{written[key]} and {name} say the same thing twice."
            faults.append(Fault("bad_operand", f"/{escape(name)}", message, "Delete one of the two."))
            continue
        if not (name == "image_url" and value == ""):
            entry[key] = value
        written[key] = name
    _read_flags(sent, entry, written, old, faults)
    if faults:
        raise AuthorError(faults)
    return entry, written


def _read_flags(sent: Entry, entry: dict[str, Any], written: dict[str, str], old: Entry, faults: list[Fault]) -> None:
    """`active` and `is_active` as a status: no longer active is deprecated, or a draft where it never was active."""
    flags = {name: sent[name] for name in _FLAGS if sent.get(name) is not None}
    for name, value in flags.items():
        if not isinstance(value, bool):
            message = f"True or false must stand here, not {described(value)}."
            faults.append(Fault("bad_operand", f"/{name}", message, "Write true or false."))
            return
    if not flags:
        return
    name, active = next(iter(flags.items()))
    status = entry.get("status")
    if len(set(flags.values())) > 1 or (isinstance(status, str) and active != (status == "active")):
        message = f"{' and '.join([*flags, *(['status'] if status is not None else [])])} contradict each other."
        faults.append(Fault("bad_operand", f"/{name}", message, "Write one of them."))
        return
    if status is not None:
        return
    before = _status(old)
    was = before in (None, "draft")
    entry["status"] = "active" if active else "draft" if was else before if before == "deprecated" else "deprecated"
    written["status"] = name


def _status(entry: Entry) -> str | None:
    """The status of an entry as written; None where there is no entry."""
    if not entry:
        return None
    if "status" in entry:
        return str(entry["status"])
    return "deprecated" if entry.get("is_active") is False else "active"


def _place(badge: Badge) -> tuple[str, int]:
    section, index = pointer_tokens(badge.path)[:2]
    if section not in ("badges", "milestones"):
        kind = section.removesuffix("s")
        raise Fixed(
            f"{badge.key} is made by a {kind}, and cannot be changed alone.",
            help=f"change the {kind} in the catalog and apply that",
        )
    return section, int(index)


def _named(name: str, *, milestone: bool) -> str:
    key = _NAMES.get(name, name)
    return _MILESTONE_NAMES.get(key, key) if milestone else "status" if name in _FLAGS else key


def _no_flow(sent: Entry) -> Fault:
    message = "A flow must stand here, and there is none."
    if "criteria" in sent:
        message = "The flow goes by the name flow_definition, with criteria inside of it."
    return Fault("flow_definition_required", "/flow_definition", message, _EXAMPLE)


def _badge_names(document: Document) -> list[tuple[Any, Any]]:
    """Key and label of the entries that are one badge each."""
    badges = [(entry.get("key"), entry.get("label")) for entry in document.get("badges") or ()]
    return badges + [(entry.get("code"), entry.get("title")) for entry in document.get("milestones") or ()]


# -- ladders, tenures, milestones --------------------------------------------------------------------------------------


def made_added(document: Document, section: str, body: Any) -> Edit:
    """The document with one ladder, tenure or milestone more. Raises AuthorError, and Taken where the key is taken."""
    sent, own = _object(body, f"A {section.removesuffix('s')}"), _own_key(section)
    key = sent.get(own)
    if not isinstance(key, str) or not key:
        message = f'A {section.removesuffix("s")} has no "{own}".'
        raise AuthorError([Fault("missing_key", f"/{own}", message, f'Write "{own}": "commentator".')])
    listed = document.get(section) or []
    if any(entry.get(own) == key for entry in listed):
        raise Taken(f"There is a {section.removesuffix('s')} {shown(key)} already.", help="choose another key")
    entry = {name: value for name, value in sent.items() if value is not None}
    return Edit({**document, section: [*listed, entry]}, f"/{section}/{len(listed)}", key)


def made_changed(document: Document, section: str, key: str, body: Any) -> Edit:
    """The document with one of them changed by the keys sent; null takes one away. Raises Fixed where there is none."""
    sent, own = _object(body, f"A {section.removesuffix('s')}"), _own_key(section)
    listed = document.get(section) or []
    index = next((place for place, entry in enumerate(listed) if entry.get(own) == key), None)
    if index is None:
        raise Fixed(f"The catalog has no {section.removesuffix('s')} {shown(key)}.", help="look at the catalog again")
    gone = {*sent, "is_active"} if sent.get("status") else sent.keys()
    kept = {name: value for name, value in listed[index].items() if name not in gone or name == own}
    new = {name: value for name, value in sent.items() if value is not None and name != own}
    return _with_entry(document, section, index, {**kept, **new}, key, {})


def _own_key(section: str) -> str:
    return "code" if section == "milestones" else "key"


# -- event types -------------------------------------------------------------------------------------------------------


def event_type_added(document: Document, body: Any) -> Edit:
    """The document with one event type more. Raises AuthorError, and Taken where there is one of this name."""
    sent = _object(body, "An event type")
    name = _text(sent, "An event type", "comment.posted")
    types = document.get("events") or {}
    if name in types:
        raise Taken(f"There is an event type {shown(name)} already.", help="choose another name, or change that one")
    for other, entry in types.items():
        if isinstance(entry, Mapping) and name in (entry.get("aliases") or ()):
            raise Taken(f"{shown(name)} is an alias of the event type {other}.", help="choose another name")
    return _with_type(document, name, _type_entry(sent))


def event_type_changed(document: Document, name: str, body: Any, *, whole: bool) -> Edit:
    """The document with one event type changed: replaced, or by the keys sent, where null takes one away."""
    sent = _object(body, "An event type")
    _keeps_name(sent, name, "An event type")
    entry = _type_entry(sent)
    if not whole:
        old = (document.get("events") or {}).get(name) or {}
        entry = {key: value for key, value in old.items() if key not in sent or sent[key] is not None} | entry
    return _with_type(document, name, entry)


def event_type_removed(document: Document, name: str) -> Edit:
    """The document without an event type; the faults it then has say what still names it."""
    types = {key: entry for key, entry in (document.get("events") or {}).items() if key != name}
    return Edit({**document, "events": types}, "", name)


def _type_entry(sent: Entry) -> dict[str, Any]:
    return {key: value for key, value in sent.items() if key != "name" and key not in ANSWERS and value is not None}


def _with_type(document: Document, name: str, entry: Entry) -> Edit:
    return Edit(
        {**document, "events": {**(document.get("events") or {}), name: entry}}, f"/events/{escape(name)}", name
    )


# -- condition types ---------------------------------------------------------------------------------------------------


def condition_type_added(document: Document, body: Any) -> Edit:
    """The document with one condition type more. Raises AuthorError, and Taken where there is one of this name."""
    sent = _object(body, "A condition type")
    name = _text(sent, "A condition type", "big_order")
    listed = document.get("condition_types") or []
    if any(entry["name"] == name for entry in listed):
        raise Taken(f"There is a condition type {shown(name)} already.", help="choose another name, or change that one")
    entry = {"name": name, **_type_entry(sent)}
    return Edit({**document, "condition_types": [*listed, entry]}, f"/condition_types/{len(listed)}", name)


def condition_type_changed(document: Document, name: str, body: Any, *, whole: bool) -> Edit:
    """The document with one condition type changed, as `event_type_changed`."""
    sent = _object(body, "A condition type")
    _keeps_name(sent, name, "A condition type")
    index = _condition_index(document, name)
    old: Entry = {} if whole else document["condition_types"][index]
    kept = {key: value for key, value in old.items() if key not in sent or sent[key] is not None}
    return _with_entry(document, "condition_types", index, {"name": name, **kept, **_type_entry(sent)}, name, {})


def condition_type_removed(document: Document, name: str) -> Edit:
    """The document without a condition type; the faults it then has say what still asks it."""
    index = _condition_index(document, name)
    listed = document["condition_types"]
    return Edit({**document, "condition_types": [*listed[:index], *listed[index + 1 :]]}, "", name)


def _condition_index(document: Document, name: str) -> int:
    return next(index for index, entry in enumerate(document["condition_types"]) if entry["name"] == name)


# -- all of them -------------------------------------------------------------------------------------------------------


def _with_entry(document: Document, section: str, index: int, entry: Entry, key: str, names: Mapping[str, str]) -> Edit:
    listed = list(document[section])
    listed[index] = dict(entry)
    return Edit({**document, section: listed}, f"/{section}/{index}", key, names)


def _object(body: Any, noun: str) -> Entry:
    if isinstance(body, Mapping):
        return body
    message = f"{noun} is an object, not {described(body)}."
    raise AuthorError([Fault("bad_operand", "", message, 'Write {"name": …}.')])


def _text(sent: Entry, noun: str, example: str) -> str:
    name = sent.get("name")
    if isinstance(name, str) and name:
        return name
    if "name" not in sent:
        raise AuthorError([Fault("missing_key", "", f'{noun} has no "name".', f'Write "name": "{example}".')])
    message = f"A text must stand here, not {described(name)}."
    raise AuthorError([Fault("bad_operand", "/name", message, f'Write "{example}", for example.')])


def _keeps_name(sent: Entry, name: str, noun: str) -> None:
    if sent.get("name", name) != name:
        message = f"{noun} keeps its name, which is {name}."
        raise AuthorError([Fault("bad_operand", "/name", message, "Leave it out, or add another.")])
