"""A document with one entry written anew, where the faults of that lie in what was sent, and what all entries share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from worker.errors import AuthorError, BadgesError, Fault
from worker.rules.catalog.document import escape, pointer_tokens
from worker.rules.operators.place import described

#: Where the entries of a kind stand, and the field that names them.
_NAMES: Final = {
    "badge": (("badges", "key"), ("milestones", "code")),
    "condition type": (("condition_types", "name"),),
}

Document = Mapping[str, Any]
Entry = Mapping[str, Any]

#: What an answer holds beside its entry: taken back, so that an answer can be sent again, and not looked at.
ANSWERS: Final = frozenset({"id", "created_at", "updated_at", "builtin"})


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


def entry_of(document: Document, noun: str, key: str) -> Entry | None:
    """The entry of a `badge`, an `event type` or a `condition type` as authors write it; None where there is none."""
    if noun == "event type":
        found: Entry | None = (document.get("events") or {}).get(key)
        return found
    named = (
        entry
        for section, name in _NAMES[noun]
        for entry in document.get(section) or ()
        if isinstance(entry, Mapping) and entry.get(name) == key
    )
    return next(named, None)


def with_entry(document: Document, section: str, index: int, entry: Entry, key: str, names: Mapping[str, str]) -> Edit:
    """The document with one entry of a list in place of the old one."""
    listed = list(document[section])
    listed[index] = dict(entry)
    return Edit({**document, section: listed}, f"/{section}/{index}", key, names)


def object_of(body: Any, noun: str) -> Entry:
    """A body as an object. Raises AuthorError where it is none."""
    if isinstance(body, Mapping):
        return body
    message = f"{noun} is an object, not {described(body)}."
    raise AuthorError([Fault("bad_operand", "", message, 'Write {"name": …}.')])


def name_of(sent: Entry, noun: str, example: str) -> str:
    """The name in a body. Raises AuthorError where it is missing or no text."""
    name = sent.get("name")
    if isinstance(name, str) and name:
        return name
    if "name" not in sent:
        raise AuthorError([Fault("missing_key", "", f'{noun} has no "name".', f'Write "name": "{example}".')])
    message = f"A text must stand here, not {described(name)}."
    raise AuthorError([Fault("bad_operand", "/name", message, f'Write "{example}", for example.')])


def keeps_name(sent: Entry, name: str, noun: str) -> None:
    """Raises AuthorError where a body would change the name."""
    if sent.get("name", name) != name:
        message = f"{noun} keeps its name, which is {name}."
        raise AuthorError([Fault("bad_operand", "/name", message, "Leave it out, or add another.")])
