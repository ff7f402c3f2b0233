"""Badges written anew, by the keys of the catalog or those of older programs.

`name` is a badge's label, `flow_definition` its flow, `active` or `is_active` whether it is given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from worker.errors import AuthorError, Fault
from worker.events import json_text
from worker.rules.catalog.definitions import Badge
from worker.rules.catalog.document import escape, pointer_tokens
from worker.rules.catalog.edits.edit import Document, Edit, Entry, Fixed, Nameless, Taken, object_of, with_entry
from worker.rules.operators.place import described, shown

#: What a badge's answer holds beside its entry: taken back, so that an answer can be sent again, and not looked at.
BADGE_ANSWERS: Final = frozenset(
    {"id", "created_at", "updated_at", "holders", "share", "tier", "kind", "tooltip", "takes"}
)

_NOT_IN_KEYS: Final = re.compile(r"[^a-z0-9.-]+")
_LONGEST_KEY: Final = 100
_NAMES: Final = {"name": "label", "flow_definition": "flow"}
_MILESTONE_NAMES: Final = {"name": "title", "label": "title", "key": "code"}
_FLAGS: Final = ("is_active", "active")
_EXAMPLE: Final = 'Write "flow_definition": {"event": "comment.posted", "criteria": {"score": {"$gte": 10}}}.'


def key_of_name(name: str) -> str:
    """A badge's key from its name: lower-cased, each run of other characters one `_`, trimmed, cut; may be empty."""
    plain = _NOT_IN_KEYS.sub("_", name.lower()).strip("_.-")
    return plain[:_LONGEST_KEY].rstrip("_.-")


def badge_added(document: Document, body: Any, *, spare: str | None = None) -> Edit:
    """The document with one badge more; `spare` is the key of one whose name gives none.

    Raises AuthorError for what is wrong with the form, Taken where key or name belong to another badge, Nameless where
    the spare key is needed and was not given.
    """
    sent = object_of(body, "A badge")
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
    sent = object_of(body, "A badge")
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
    return with_entry(document, section, index, new, badge.key, names)


def badge_deprecated(document: Document, badge: Badge) -> Edit:
    """The document with one badge that gives no new awards; its holders keep it. Raises Fixed as `badge_changed`."""
    section, index = _place(badge)
    old = {name: value for name, value in document[section][index].items() if name != "is_active"}
    return with_entry(document, section, index, {**old, "status": "deprecated"}, badge.key, {})


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
