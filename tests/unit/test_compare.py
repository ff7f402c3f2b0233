"""What changed between two catalogs, badge by badge, and in how few words it can be said."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import yaml

from tests.community import CATALOG
from tests.unit.playing import catalog
from worker.rules.catalog.load import catalog_from_document
from worker.rules.compare import Comparison, Named, Phrases, compare, different_numbers, may_gain, shortened
from worker.rules.plan import definition_hash

COUNT = {"event": "comment.posted", "criteria": {"$eventCount": {"$gte": 10}}}
MORE = {"event": "comment.posted", "criteria": {"$eventCount": {"$gte": 20}}}
OTHER = {"event": "answer.scored"}


def kinds(found: Comparison) -> dict[str, str]:
    return {change.key: change.kind for change in found.badges}


def test_nothing_changed() -> None:
    """A catalog differs in nothing from itself, nor from one whose flows say the same in other words."""
    assert not compare(catalog(COUNT, OTHER), catalog(COUNT, OTHER)).differs
    assert not compare(catalog(COUNT), catalog({"$and": [COUNT, COUNT]})).badges


def test_all_is_new_where_there_was_none() -> None:
    """Against no catalog at all every badge is added, and no setting is said to differ."""
    found = compare(None, catalog(COUNT, OTHER, timezone="Europe/Berlin"))
    assert kinds(found) == {"b0": "added", "b1": "added"}
    assert (found.settings, len(found.events)) == ((), 5)


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        ({}, {"label": "Other"}, "display"),
        ({}, {"animation": {"kind": "confetti"}}, "display"),
        ({}, {"flow": MORE}, "test"),
        ({}, {"flow": MORE, "label": "Other"}, "test"),
        ({}, {"per": "post_id"}, "test"),
        ({}, {"status": "hidden"}, "status"),
        ({"status": "draft"}, {}, "status"),
        ({}, {"status": "deprecated"}, "deprecated"),
        ({"flow": {"badge": "b1"}, "triggers": ["user.logged_in"]}, {"flow": {"badge": "b1"}}, "test"),
    ],
)
def test_what_became_of_a_badge(old: dict[str, Any], new: dict[str, Any], kind: str) -> None:
    """The gravest of what changed names the change: a status, then what it takes, then what is shown."""
    entry = {"key": "b0", "flow": COUNT}
    other = {"key": "b1", "flow": OTHER}
    assert kinds(compare(catalog(entry | old, other), catalog(entry | new, other))) == {"b0": kind}


def test_a_badge_left_out_is_deprecated() -> None:
    """A key that the new catalog lacks becomes deprecated, unless it was."""
    found = compare(catalog(COUNT, {"key": "gone", "flow": OTHER}), catalog(COUNT))
    assert kinds(found) == {"gone": "deprecated"}
    assert found.badges[0].new is None
    ended = {"key": "gone", "flow": OTHER, "status": "deprecated"}
    assert not compare(catalog(COUNT, ended), catalog(COUNT)).badges


def test_a_level_inserted_into_a_ladder() -> None:
    """The new level is a badge that is added; those above it change their tier and label only, not what they take."""
    old = yaml.safe_load(CATALOG)
    new = deepcopy(old)
    new["ladders"][0]["levels"] = [10, 25, 50, 100]
    found = compare(catalog_from_document(old, 1), catalog_from_document(new, 2))
    assert kinds(found) == {"commentator_25": "added", "commentator_50": "display", "commentator_100": "display"}
    assert {change.ladder for change in found.badges} == {"commentator"}
    assert [change.label for change in found.badges] == [
        "Commentator II",
        "Commentator II -> III",
        "Commentator III -> IV",
    ]
    assert found.ladders == (Named("~", "commentator", "10, 50, 100", "10, 25, 50, 100"),)
    assert found.summary == "1 added, 2 relabelled"
    assert may_gain(found, catalog_from_document(new, 2)) == {"commentator_25"}


def test_metrics_event_types_and_settings() -> None:
    """What is no badge is told by name: new, changed, left out; an empty section is as good as none."""
    old = catalog(
        COUNT, metrics={"a": {"count": "order.paid"}, "b": {"count": "order.paid"}}, timezone="UTC", schedules=[]
    )
    new = catalog(
        COUNT, metrics={"a": {"count": "comment.posted"}, "c": {"count": "order.paid"}}, timezone="Europe/Berlin"
    )
    found = compare(old, new)
    assert [(one.sign, one.name) for one in found.metrics] == [("~", "a"), ("+", "c"), ("-", "b")]
    assert found.settings == (Named("~", "timezone", "UTC", "Europe/Berlin"),)
    assert not found.events
    assert may_gain(found, new) == {"b0"}


def test_who_asks_for_a_changed_badge_may_gain() -> None:
    """A change reaches the badges that ask for the changed one, over any number of steps, and no badge that ended."""
    second = {"key": "second", "flow": {"badge": "b0"}}
    third = {"key": "third", "flow": {"$not": {"badge": "second"}}, "status": "hidden"}
    ended = {"key": "ended", "flow": {"badge": "b0"}, "status": "locked"}
    old = catalog(COUNT, OTHER, second, third, ended)
    new = catalog(MORE, OTHER, second, third, ended)
    assert may_gain(compare(old, new), new) == {"b0", "second", "third"}
    assert may_gain(compare(old, old), old) == frozenset()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "1 answer with score at least 10, per post_id",
            "1 answer with score at least 8, per post_id",
            ("score at least 10", "at least 8"),
        ),
        ("Commentator II", "Commentator III", ("Commentator II", "III")),
        ("10 comments in the last 7 days", "12 comments in the last 7 days", ("10 comments", "12")),
        ("one", "other", ("one", "other")),
        ("1 comment", "1 comment, per post_id", ("1 comment", "1 comment, per post_id")),
        ("a b c", "a x c", ("a b", "x")),
    ],
)
def test_phrases_without_what_they_share(old: str, new: str, said: tuple[str, str]) -> None:
    """Only the part that differs is said, with a word that says of what; where that is nothing, all of both."""
    assert shortened(old, new) == said


def test_numbers_in_which_phrases_differ() -> None:
    """One number that differs is found; two, or a word, is no such case."""
    assert different_numbers("at least 10, per x", "at least 8, per x") == ("10", "8")
    assert different_numbers("1 comment in 3 days", "2 comments in 4 days") is None
    assert different_numbers("a comment", "an answer") is None


def test_triggers_are_told_where_only_they_changed() -> None:
    """A badge that takes the same at other moments is told by its triggers."""
    entry = {"key": "b1", "flow": {"badge": "b0"}}
    old, new = catalog(COUNT, entry | {"triggers": ["user.logged_in"]}), catalog(COUNT, entry)
    (change,) = compare(old, new).badges
    assert Phrases(old, new).changed(change) == ("looked at on user.logged_in", "comment.posted")


def test_a_definition_has_a_name() -> None:
    """What a badge takes has one name, whatever its words and its place; another threshold or context has another."""
    one, same, more, per = catalog(
        COUNT, {"$and": [COUNT, COUNT]}, MORE, {"flow": COUNT, "per": "n", "key": "p"}
    ).badges
    assert definition_hash(one) == definition_hash(same)
    assert len({definition_hash(badge) for badge in (one, more, per)}) == 3
    assert definition_hash(one) == definition_hash(catalog(OTHER, COUNT, timezone="Europe/Berlin").badges[1])


STEADY = {"pattern": "consistent", "periodType": "day"}


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        (COUNT, "8ce04f4266aa9934"),
        ({"$not": COUNT}, "ac028f3fd297b6ef"),
        ({"$or": [COUNT, OTHER]}, "d4510548ffae1fc5"),
        ({"$and": [COUNT, OTHER]}, "6a0e6959cfd4ec3d"),
        ({"$timeWindow": {"last": "7d", "flow": COUNT}}, "d4f59901be7194f2"),
        ({"$pattern": STEADY}, "15342d898e73a9e0"),
        ({"badge": "other"}, "275b066cd4ab8ed7"),
        ({"flow": {"badge": "other"}, "triggers": ["user.logged_in", "order.paid"]}, "93acda3963e16b36"),
    ],
)
def test_the_name_of_a_definition_never_changes(entry: Any, name: str) -> None:
    """Awards are kept with the name of what earned them: each version gives each definition the same one."""
    assert definition_hash(catalog(entry, {"key": "other", "flow": COUNT}).badges[0]) == name
