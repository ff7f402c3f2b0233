"""The catalog's format, section by section: the one table that checks, explains and completes what authors write."""

from __future__ import annotations

import re
from datetime import date
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from worker.events.dictionary import NAME
from worker.rules.catalog.cron import cron_fault
from worker.rules.catalog.flow_schema import definitions, ref
from worker.rules.catalog.nearest import nearest
from worker.rules.catalog.shapes import (
    Anything,
    Choice,
    Either,
    Flag,
    Items,
    Judged,
    Key,
    Named,
    Record,
    Text,
    Whole,
    need,
)

KEY = re.compile(r"[a-z0-9][a-z0-9_.-]{0,99}")
METRIC = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}")
LANGUAGE = re.compile(r"[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8})*")
SCHEDULE = re.compile(r"cron\.[a-z][a-z0-9_]{0,99}")
DURATION = re.compile(r"[1-9][0-9]{0,8}(?:s|min|h|d|w|M|m|q|y)")
MOST_BADGES = 200_000

_OBJECT = {"type": "object"}
_NUMBERS = {"type": "array", "items": {"type": "number"}, "minItems": 1}


@lru_cache(maxsize=1024)
def zone_fault(name: str) -> tuple[str, str] | None:
    """What is wrong with the name of a time zone."""
    try:
        ZoneInfo(name)
    except (ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError
        pass
    except KeyError:
        pass
    else:
        return None
    close = nearest(name, available_timezones())
    return f'There is no time zone "{name[:60]}".', f'Write "{close or "Europe/Berlin"}", for example.'


def _date_fault(text: str) -> tuple[str, str] | None:
    try:
        if len(text) == len("2026-12-24"):
            date.fromisoformat(text)
            return None
    except ValueError:
        pass
    return f'"{text[:60]}" is no date.', 'Write "2026-12-24", for example.'


def _schedule_fault(name: str) -> tuple[str, str] | None:
    if name == "cron.anniversary":
        return "cron.anniversary has a job of its own.", 'Write "cron.monthly", for example.'
    return None


def _url(example: str) -> Text:
    rule = "is no address that begins with https://."
    return Text(example, 2_000, re.compile(r"https://[^\s/?#\"'<>\\]+[^\s\"'<>\\]*"), rule)


_EVENT = Text("comment.posted", 200, NAME, "is no name of an event type.")
_SCHEDULE = Judged(Text("cron.monthly", 100, SCHEDULE, "is no name of a schedule."), _schedule_fault)
_DURATION = Text("30d", 20, DURATION, "is no length of time (a whole number and s, min, h, d, w, m, q or y).")
_EVENT_OR_ANY = Either(Choice(("*",)), _EVENT, lambda value: value == "*")
_METRIC_NAME = Text("comments", 100, METRIC, "is no name of a metric.")
_FIELD = Text("post_id", 200)
_BADGE_KEY = Text(
    "nice_question", 100, KEY, "is no key: a to z, 0 to 9, _ . and -, beginning with a letter or digit, at most 100.",
    "invalid_key",
)  # fmt: skip
_PAYLOAD = Anything(ref("fields"))
_FLOW = Anything(ref("flow"))

_BREAKER = Either(
    Choice(("off",)),
    Record(
        "A breaker",
        {
            "factor": Key(Whole(1, 1_000_000), "how many times the awards of a usual day trip it"),
            "window": Key(_DURATION, "the length of time over which awards are counted"),
            "limit": Key(Whole(1, 1_000_000_000), "how many awards in the window trip it while nothing is usual yet"),
        },
    ),
    lambda value: not isinstance(value, dict),
)

_PLURAL = Record("A noun", {"one": need(Text("comment"), "one of them"), "other": need(Text("comments"), "several")})

_WORDS = Record(
    "A translation",
    {
        "label": Key(Text("Gute Frage"), "the label in this language"),
        "title": Key(Text("Gute Frage"), "the label of a milestone in this language"),
        "description": Key(Text("Eine Frage mit 10 Punkten", 2_000, empty=True), "the description in this language"),
    },
)

_KIND = need(Text("confetti", 100), "confetti, webm, …")
_FILM = _url("https://example.com/nice.webm")
#: A kind that is not known here is the page's own, with keys of its own; an address is one for every kind.
_ANIMATION = Either(
    Record("A webm animation", {"kind": _KIND, "url": need(_FILM, "the film, at an https address")}),
    Record("An animation", {"kind": _KIND, "url": Key(_FILM, "what it shows, at an https address")}, open=True),
    lambda value: isinstance(value, dict) and value.get("kind") == "webm",
)

#: Keys that say how a badge looks and behaves; they stand on badges, ladders, tenures and milestones alike.
DISPLAY = {
    "family": Key(Text("misc", 100), "badges that belong together"),
    "label": Key(Text("Nice question"), "the name people see"),
    "description": Key(Text("A question with a score of 10 or more", 2_000, empty=True), "what it is given for"),
    "icon": Key(Text("star"), "the icon's name"),
    "color": Key(Text("#c9a227", 7, re.compile(r"#[0-9a-fA-F]{6}"), "is no colour."), "a colour, #rrggbb"),
    "image_url": Key(_url("https://example.com/nice.png"), "an image, at an https address"),
    "sort_score": Key(Whole(-(2**31), 2**31 - 1), "higher ones come first on a profile"),
    "status": Key(
        Choice(("draft", "active", "hidden", "locked", "deprecated")),
        "draft: not evaluated; hidden: shown to holders only; locked: shown, not given; deprecated: holders keep it",
    ),
    "revocable": Key(
        Choice(("never", "manual", "auto")),
        "auto: it is taken back once what it takes no longer holds; else only people take it back",
    ),
    "animation": Key(_ANIMATION, "what is shown when it is earned"),
    "translations": Key(
        Named(_WORDS, LANGUAGE, "is no language tag.", example="de: {label: Gute Frage}", most=1_000),
        "label and description in other languages",
    ),
    "breaker": Key(_BREAKER, "holds awards back when they come too fast; off, or factor, window, limit"),
}

_TRIGGERS = Key(Items(_EVENT, 1_000, example="[question.scored]"), "event types that make it look; else derived")

BADGE = Record(
    "A badge",
    {
        "key": need(_BADGE_KEY, "the name programs know it by"),
        **DISPLAY,
        "triggers": _TRIGGERS,
        "flow": Key(_FLOW, "the test: an event with criteria, or one operator"),
        "per": Key(_FIELD, "one award for each value of this payload field"),
    },
)

LADDER = Record(
    "A ladder",
    {
        "key": need(_BADGE_KEY, "each level's badge is called key_level"),
        "metric": need(_METRIC_NAME, "the metric whose value must reach the levels"),
        "levels": need(Anything(_NUMBERS), "rising numbers"),
        **DISPLAY,
        "triggers": _TRIGGERS,
    },
)

TENURE = Record(
    "A tenure",
    {
        "key": need(_BADGE_KEY, "each year's badge is called key_1y, key_2y, …"),
        "since": need(_EVENT, "the event type whose first event begins the years"),
        "years": need(Anything(_NUMBERS), "rising years"),
        **DISPLAY,
    },
)

MILESTONE = Record(
    "A milestone",
    {
        "code": need(_BADGE_KEY, "the key of its badge"),
        "title": Key(Text("Momentum"), "the name people see"),
        **{name: key for name, key in DISPLAY.items() if name not in ("label", "status")},
        "trigger_event": Key(Anything({"type": "string"}), "the event type that makes it look"),
        "rule_type": Key(Anything({"enum": ["count", "window_count", "return_after_gap"]}), "the rule"),
        "rule_data": Key(Anything(_OBJECT), "the rule's figures"),
        "is_active": Key(Flag(), "false: no new awards"),
        "status": DISPLAY["status"],
    },
)  # fmt: skip

EVENT = Record(
    "An event type",
    {
        "description": Key(Text("A comment was posted.", 2_000, empty=True), "what happened"),
        "aliases": Key(
            Items(Text("CommentPosted", 200, NAME, "is no name of an event type."), 1_000, example="[CommentPosted]"),
            "other names producers and flows may use",
        ),
        "schema": Key(Anything(_OBJECT), "a JSON Schema of the payload"),
        "login": Key(Flag(), "whether this is a login"),
        "noun": Key(
            Either(Text("comment"), Record(
                "A noun", {**_PLURAL.keys, "translations": Key(
                    Named(_PLURAL, LANGUAGE, "is no language tag.", example="de: {one: Kommentar, other: Kommentare}"),
                    "the same in other languages")}), lambda value: not isinstance(value, dict)),
            "the word for sentences, {one: comment, other: comments}",
        ),
    },
    nothing=True,
)  # fmt: skip

_FIGURE = Record(
    "A metric",
    {
        "count": Key(_EVENT, "counts events of this type"),
        "less": Key(_EVENT, "with count: events of this type take one away"),
        "sum": Key(_FIELD, "adds up the numbers in this payload field"),
        "event": Key(_EVENT, "with sum: the event type"),
        "first": Key(_EVENT_OR_ANY, "when the first such event was"),
        "last": Key(_EVENT_OR_ANY, "when the last one was; * is any event"),
        "where": Key(_PAYLOAD, "only events whose payload is so"),
        "per": Key(_FIELD, "one figure for each value of this payload field"),
        "by": Key(_FIELD, "the same as per"),
    },
)

CATALOG = Record(
    "A catalog",
    {
        "version": Key(Whole(1, 1), "the version of this format"),
        "timezone": Key(Judged(Text("UTC"), zone_fault), "the zone in which days, weeks and months are counted"),
        "events": Key(
            Named(EVENT, NAME, "is no name of an event type.", nothing=True, example="comment.posted: {}"),
            "the event dictionary",
        ),
        "metrics": Key(
            Named(_FIGURE, METRIC, "is no name of a metric.", nothing=True, example="comments: {count: a.done}"),
            "named figures per user",
        ),
        "badges": Key(Items(BADGE, MOST_BADGES, nothing=True, example="[{key: …, flow: …}]"), "badges"),
        "ladders": Key(Items(LADDER, 10_000, nothing=True, example="[{key: …, metric: …, levels: […]}]"), "ladders"),
        "tenures": Key(Items(TENURE, 10_000, nothing=True, example="[{key: …, since: …, years: […]}]"), "tenures"),
        "milestones": Key(Items(MILESTONE, MOST_BADGES, nothing=True, example="[{code: …}]"), "milestones"),
        "user_timezone": Key(
            Record("user_timezone", {
                "event": need(_EVENT, "the event type that says it"),
                "field": need(_FIELD, "the payload field that holds the zone's name"),
            }, nothing=True),
            "where a user's own time zone comes from",
        ),
        "catch_up_on_login": Key(Flag(), "at a login, look at everything that logins trigger"),
        "active_days": Key(Whole(1, 36_500), "how recent an event makes a user active"),
        "feb_29": Key(Choice(("feb_28", "mar_1")), "the anniversary of 29 February in other years"),
        "schedules": Key(
            Items(Record("A schedule", {
                "event": need(_SCHEDULE, "the cron.* event it sends"),
                "cron": need(Judged(Text("0 9 1 * *"), cron_fault), "minute, hour, day, month, weekday"),
            }), 1_000, nothing=True),
            "events by the clock",
        ),
        "retention": Key(
            Named(_DURATION, NAME, "is no name of an event type.", nothing=True, example="comment.posted: 5y"),
            "how long events are kept, by type",
        ),
        "breaker": DISPLAY["breaker"],
        "holidays": Key(
            Named(Items(Judged(Text("2026-12-24"), _date_fault), 100_000), METRIC, "is no name of a holiday list.",
                  nothing=True, example='company: ["2026-12-24"]'),
            "lists of dates that flows may name",
        ),
        "condition_types": Key(
            Items(Record("A condition type", {
                "name": need(Text("big_order", 100, METRIC, "is no name of a condition type."), "its name"),
                "description": Key(Text("An order above a sum.", 2_000, empty=True), "what it asks"),
                "source": need(Text("(event, params) => event.payload.total > params.min", 65_536), "JavaScript"),
                "params": Key(Anything(_OBJECT), "a JSON Schema of its parameters"),
            }), 10_000, nothing=True),
            "conditions of the author's own, in JavaScript",
        ),
    },
)  # fmt: skip


def catalog_schema() -> dict[str, Any]:
    """The format as JSON Schema (draft 2020-12): `schemas/catalog.json` is this, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A badgestream catalog",
        "description": "Event dictionary, metrics, badges. `badges catalog lint` checks more than this schema can say.",
        **CATALOG.schema(),
        "$defs": definitions(),
    }
