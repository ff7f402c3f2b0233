"""The kinds of catalog entries beside single badges, as forms: a new kind of entry is a line of the table here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from worker.rules.catalog import edits
from worker.rules.catalog.edits import Edit


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a form: the entry's key, what people read, and how its text becomes the value.

    `form` is text, long, choice, events, metrics, figures (numbers parted by commas), names (texts parted by commas),
    flag, whole, json, source (a program's text) or animation.
    """

    name: str
    label: str
    form: str = "text"
    hint: str = ""
    options: tuple[str, ...] = ()
    required: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of entry: its section of the catalog, the key that names one, its words, and how one is edited.

    `start` is what the form of a new one holds.
    """

    slug: str
    section: str
    own: str
    noun: str
    plural: str
    lead: str
    fields: tuple[Field, ...]
    add: Callable[[Any, Any], Edit]
    change: Callable[[Any, str, Any], Edit]
    start: Mapping[str, str]


_STATUS: Final = Field("status", "Status", "choice", options=("active", "draft", "hidden", "locked", "deprecated"))
_LOOKS: Final = (
    Field("family", "Family"),
    Field("icon", "Icon", hint="a name, trophy for example"),
    Field("color", "Colour", hint="#rrggbb"),
    Field("image_url", "Picture", hint="https://"),
    _STATUS,
    Field("revocable", "Taken back", "choice", options=("never", "manual", "auto")),
    Field("animation", "Animation", "animation"),
)
_NAMES: Final = "Small letters, digits, _ . -"


def _made(section: str) -> tuple[Callable[[Any, Any], Edit], Callable[[Any, str, Any], Edit]]:
    return (
        lambda document, body: edits.made_added(document, section, body),
        lambda document, key, body: edits.made_changed(document, section, key, body),
    )


KINDS: Final[Mapping[str, Kind]] = {
    kind.slug: kind
    for kind in (
        Kind(
            "ladders", "ladders", "key", "ladder", "Ladders",
            "One badge for each level that a metric reaches.",
            (
                Field("key", "Key", hint=f"{_NAMES}; each level's badge is called key_level.", required=True),
                Field("label", "Label", hint="The tier stands behind it; {level} and {tier} may stand in it."),
                Field("metric", "Metric", "metrics", required=True),
                Field("levels", "Levels", "figures", "Rising numbers: 10, 50, 100", required=True),
                Field("description", "Description", "long", "{level} is the figure."),
                Field("sort_score", "Order", "whole"),
                Field("triggers", "Triggers", "names", "Event types; without them, those of the metric."),
                *_LOOKS,
            ),
            *_made("ladders"), {"status": "active", "revocable": "never", "animation": "none", "levels": "10, 50, 100"},
        ),
        Kind(
            "tenures", "tenures", "key", "tenure", "Tenures",
            "One badge for each number of years since an event.",
            (
                Field("key", "Key", hint=f"{_NAMES}; each year's badge is called key_1y.", required=True),
                Field("label", "Label"),
                Field("since", "Since", "events", "The first event of this type begins the years.", required=True),
                Field("years", "Years", "figures", "Rising whole numbers: 1, 2, 5", required=True),
                Field("description", "Description", "long", "{since} is the holder's day."),
                Field("sort_score", "Order", "whole"),
                *_LOOKS,
            ),
            *_made("tenures"), {"status": "active", "revocable": "never", "animation": "none", "years": "1, 2, 5, 10"},
        ),
        Kind(
            "milestones", "milestones", "code", "milestone", "Milestones",
            "A badge by one of three rules: count, window_count, return_after_gap.",
            (
                Field("code", "Code", hint=f"{_NAMES}; the key of its badge.", required=True),
                Field("title", "Title"),
                Field("trigger_event", "Trigger", "events"),
                Field("rule_type", "Rule", "choice", options=("window_count", "count", "return_after_gap")),
                Field("rule_data", "The rule's figures", "json"),
                Field("description", "Description", "long"),
                Field("sort_score", "Order", "whole"),
                *_LOOKS,
            ),
            *_made("milestones"),
            {
                "status": "active", "revocable": "never", "animation": "none", "rule_type": "window_count",
                "rule_data": '{\n  "event": "",\n  "count": 5,\n  "window_days": 14\n}',
            },
        ),
        Kind(
            "event-types", "events", "name", "event type", "Event types",
            "The dictionary of what may arrive. An event of a type that is not here becomes a dead letter.",
            (
                Field("name", "Name", hint="noun.verb: comment.posted", required=True),
                Field("description", "Description", "long"),
                Field("aliases", "Other names", "names", "Parted by commas."),
                Field("login", "This is a login", "flag"),
                Field("noun", "The word for it", "json", '{"one": "comment", "other": "comments"}'),
                Field("schema", "Schema of the payload", "json", "A JSON Schema; without one any payload is taken."),
            ),
            edits.event_type_added, lambda document, name, body: edits.event_type_changed(
                document, name, body, whole=False
            ),
            {"schema": '{\n  "type": "object",\n  "properties": {}\n}'},
        ),
        Kind(
            "condition-types", "condition_types", "name", "condition type", "Condition types",
            "Conditions of your own in JavaScript, for $condition. They run where BADGES_JS is on.",
            (
                Field("name", "Name", required=True),
                Field("description", "Description", "long"),
                Field("source", "Source", "source", "A function of event and params that answers true or false."),
                Field("params", "Schema of its params", "json"),
            ),
            edits.condition_type_added, lambda document, name, body: edits.condition_type_changed(
                document, name, body, whole=False
            ),
            {"source": "(event, params) => event.payload.total > params.min"},
        ),
    )
}  # fmt: skip
