"""One entry written anew: the document that comes of it, the keys of older programs, and where faults point."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from worker.errors import AuthorError, Fault
from worker.rules.catalog import edits
from worker.rules.catalog.definitions import Badge
from worker.rules.catalog.edits import Edit, Fixed, Nameless, Taken
from worker.rules.catalog.load import catalog_from_document
from worker.rules.catalog.touched import Touched, touched

FLOW = {"event": "quiz.done", "criteria": {"score": {"$gte": 10}}}
DOCUMENT: dict[str, Any] = {
    "version": 1,
    "events": {
        "quiz.done": {"aliases": ["QuizDone"], "schema": {"properties": {"score": {}, "item": {}}}},
        "user.registered": None,
    },
    "metrics": {"quizzes": {"count": "quiz.done"}},
    "badges": [
        {"key": "ten", "label": "Ten", "icon": "star", "flow": FLOW, "translations": {"de": {"label": "Zehn"}}},
        {"key": "sketch", "status": "draft", "flow": FLOW},
    ],
    "ladders": [{"key": "quizzer", "metric": "quizzes", "levels": [1, 5]}],
    "milestones": [
        {
            "code": "momentum",
            "title": "Momentum",
            "trigger_event": "quiz.done",
            "rule_type": "window_count",
            "rule_data": {"event": "quiz.done", "count": 5, "window_days": 14},
            "is_active": True,
        }
    ],
    "condition_types": [{"name": "big", "source": "(event) => true"}],
}
CATALOG = catalog_from_document(DOCUMENT, 1)
BADGES = {badge.key: badge for badge in CATALOG.badges}


def entry(edit: Edit, key: str) -> dict[str, Any]:
    """The entry of a badge in the document of an edit."""
    return next(one for one in edit.document["badges"] if one["key"] == key)


def badge_of(edit: Edit) -> Badge:
    """The badge as the loader reads it from the document of an edit."""
    return next(badge for badge in catalog_from_document(edit.document, 2).badges if badge.key == edit.key)


def faults_of(act: Callable[[], Any]) -> list[tuple[str, str]]:
    """Code and pointer of what an edit or the loader after it refuses, the pointers beginning at what was sent."""
    try:
        edit = act()
    except AuthorError as error:
        return [(fault.code, fault.path) for fault in error.faults]
    try:
        catalog_from_document(edit.document, 2)
    except AuthorError as error:
        inside, outside = edit.told(error.faults)
        return [(fault.code, fault.path) for fault in inside] + [(fault.code, "!" + fault.path) for fault in outside]
    return []


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("Simple Badge_1742134382840", "simple_badge_1742134382840"),
        ("  Nice -- Question!! ", "nice_--_question"),
        ("Über 9.5", "ber_9.5"),
        ("x" * 120, "x" * 100),
        ("日本語", ""),
        ("_._", ""),
    ],
)
def test_a_name_gives_a_key(name: str, key: str) -> None:
    """Lower-cased, runs of other characters one underscore, trimmed, cut to 100; a name may give none."""
    assert edits.key_of_name(name) == key


def test_a_badge_of_document_2_becomes_an_entry() -> None:
    """The older system's keys become the catalog's; what no entry says, the badge does not have."""
    sent = {
        "name": "Simple Badge",
        "description": "Simple test badge",
        "image_url": "https://example.com/badge.png",
        "flow_definition": {"event": "quiz.done", "criteria": {"score": {"$gte": Decimal("9.5")}}},
        "is_active": True,
    }
    before = copy.deepcopy(DOCUMENT)
    edit = edits.badge_added(DOCUMENT, sent)
    assert before == DOCUMENT
    assert entry(edit, "simple_badge") == {
        "key": "simple_badge",
        "label": "Simple Badge",
        "description": "Simple test badge",
        "image_url": "https://example.com/badge.png",
        "flow": sent["flow_definition"],
        "status": "active",
    }
    made = badge_of(edit)
    assert (made.label, made.status, made.flow) == ("Simple Badge", "active", sent["flow_definition"])


@pytest.mark.parametrize(
    ("extra", "status"),
    [
        ({}, "active"),
        ({"is_active": False}, "draft"),
        ({"active": False}, "draft"),
        ({"active": False, "is_active": False}, "draft"),
        ({"active": False, "status": "hidden"}, "hidden"),
        ({"status": "locked", "image_url": "", "icon": None}, "locked"),
    ],
)
def test_a_badge_that_was_never_active_is_a_draft(extra: dict[str, Any], status: str) -> None:
    """`is_active` and `active` are the status in two words; one that begins inactive is a draft."""
    assert badge_of(edits.badge_added(DOCUMENT, {"name": "New", "flow_definition": FLOW, **extra})).status == status


@pytest.mark.parametrize(
    ("key", "sent", "status"),
    [
        ("ten", {"is_active": False}, "deprecated"),
        ("ten", {"active": True}, "active"),
        ("sketch", {"active": False}, "draft"),
        ("sketch", {"is_active": True}, "active"),
        ("momentum", {"active": False}, "deprecated"),
        ("momentum", {"status": "hidden"}, "hidden"),
    ],
)
@pytest.mark.parametrize("whole", [False, True])
def test_a_badge_is_switched_on_and_off(key: str, sent: dict[str, Any], status: str, whole: bool) -> None:
    """Off is deprecated for what was active and a draft for what never was; both ways of writing do the same."""
    edit = edits.badge_changed(DOCUMENT, BADGES[key], sent, whole=whole)
    assert badge_of(edit).status == status


def test_a_patch_changes_what_it_names() -> None:
    """Keys sent change, null takes one away, the rest stays; the badge keeps its key under a new name."""
    sent = {"name": "Ten!", "icon": None, "translations": None, "color": "#ffffff"}
    edit = edits.badge_changed(DOCUMENT, BADGES["ten"], sent, whole=False)
    assert entry(edit, "ten") == {"key": "ten", "label": "Ten!", "flow": FLOW, "color": "#ffffff"}


def test_a_put_replaces_the_badge() -> None:
    """What is not sent is gone, but for key, flow and status; an answer can be sent again as it came."""
    sent = {"id": 7, "name": "Ten", "holders": 3, "created_at": "…", "description": "d", "active": True}
    edit = edits.badge_changed(DOCUMENT, BADGES["ten"], sent, whole=True)
    assert entry(edit, "ten") == {"key": "ten", "label": "Ten", "description": "d", "flow": FLOW, "status": "active"}


def test_a_milestone_keeps_its_rule() -> None:
    """Its looks and its rule's figures can be changed; its rule as a flow is taken back only as it is."""
    flow = BADGES["momentum"].flow
    edit = edits.badge_changed(
        DOCUMENT, BADGES["momentum"], {"name": "Swing", "active": True, "flow_definition": flow}, whole=True
    )
    made = badge_of(edit)
    assert (made.key, made.label, made.status, made.flow) == ("momentum", "Swing", "active", flow)
    with pytest.raises(Fixed, match="its rule is no flow"):
        edits.badge_changed(DOCUMENT, BADGES["momentum"], {"flow_definition": FLOW}, whole=False)


def test_a_step_of_a_ladder_is_not_changed_alone() -> None:
    """What a ladder makes is changed with the ladder."""
    for act in (
        lambda: edits.badge_deprecated(DOCUMENT, BADGES["quizzer_5"]),
        lambda: edits.badge_changed(DOCUMENT, BADGES["quizzer_5"], {"name": "x"}, whole=False),
    ):
        with pytest.raises(Fixed, match="made by a ladder"):
            act()


def test_deleting_deprecates() -> None:
    """A badge is never gone: it gives no new awards."""
    for key in ("ten", "momentum"):
        assert badge_of(edits.badge_deprecated(DOCUMENT, BADGES[key])).status == "deprecated"


@pytest.mark.parametrize("sent", [{"name": "Ten"}, {"name": "ten!!"}, {"key": "momentum"}, {"name": "Momentum"}])
def test_names_and_keys_are_given_once(sent: dict[str, Any]) -> None:
    """A badge whose key or name another one has is refused."""
    with pytest.raises(Taken, match="already"):
        edits.badge_added(DOCUMENT, {**sent, "flow_definition": FLOW})


def test_a_name_without_a_key_takes_the_spare_one() -> None:
    """Of a name without a single letter the key is the one at hand; without one it is asked for."""
    with pytest.raises(Nameless):
        edits.badge_added(DOCUMENT, {"name": "日本語", "flow_definition": FLOW})
    edit = edits.badge_added(DOCUMENT, {"name": "日本語", "flow_definition": FLOW}, spare="badge_7")
    assert (edit.key, badge_of(edit).label) == ("badge_7", "日本語")


@pytest.mark.parametrize(
    ("sent", "found"),
    [
        ("text", [("bad_operand", "")]),
        ({"flow_definition": FLOW}, [("missing_key", "")]),
        ({"name": "x"}, [("flow_definition_required", "/flow_definition")]),
        ({"name": "x", "criteria": FLOW}, [("flow_definition_required", "/flow_definition")]),
        ({"name": "x", "flow_definition": {}}, [("flow_definition_required", "/flow_definition")]),
        ({"name": "x", "flow_definition": None}, [("flow_definition_required", "/flow_definition")]),
        ({"name": "x", "flow_definition": {"steps": []}}, [("unsupported_format", "/flow_definition/steps")]),
        ({"name": 5, "flow_definition": FLOW, "key": "x"}, [("bad_operand", "/name")]),
        ({"name": 5, "flow_definition": FLOW}, [("bad_operand", "/name")]),
        ({"name": "x", "flow_definition": FLOW, "is_active": "yes"}, [("bad_operand", "/is_active")]),
        ({"name": "x", "flow_definition": FLOW, "active": True, "is_active": False}, [("bad_operand", "/is_active")]),
        ({"name": "x", "flow_definition": FLOW, "active": True, "status": "draft"}, [("bad_operand", "/active")]),
        ({"name": "x", "label": "y", "flow_definition": FLOW}, [("bad_operand", "/label")]),
        ({"name": "x", "flow_definition": FLOW, "colour": "#fff"}, [("unknown_key", "/colour")]),
        ({"name": "x", "flow_definition": FLOW, "image_url": "javascript:1"}, [("bad_operand", "/image_url")]),
        (
            {"name": "x", "flow_definition": {"event": "quiz.done", "criteria": {"scroe": {"$gte": 1}}}},
            [("unknown_field", "/flow_definition/criteria/scroe")],
        ),
        ({"name": "x", "flow": {"event": "no.such"}}, [("unknown_event", "/flow/event")]),
        ({"name": "Quizzer 5", "flow_definition": FLOW}, [("duplicate_key", "!/ladders/0/levels/1")]),
    ],
)
def test_faults_point_into_what_was_sent(sent: Any, found: list[tuple[str, str]]) -> None:
    """Pointers begin at the request's body, by the names that stand there."""
    assert faults_of(lambda: edits.badge_added(DOCUMENT, sent)) == found


def test_event_types_are_added_changed_and_removed() -> None:
    """A type is an entry of the dictionary; its name stays, its other keys change or go."""
    added = edits.event_type_added(DOCUMENT, {"id": 3, "name": "a.done", "description": "d", "schema": {}})
    assert added.document["events"]["a.done"] == {"description": "d", "schema": {}}
    patched = edits.event_type_changed(DOCUMENT, "quiz.done", {"aliases": None, "description": "d"}, whole=False)
    assert patched.document["events"]["quiz.done"] == {
        "schema": DOCUMENT["events"]["quiz.done"]["schema"],
        "description": "d",
    }
    put = edits.event_type_changed(DOCUMENT, "user.registered", {"name": "user.registered", "login": True}, whole=True)
    assert put.document["events"]["user.registered"] == {"login": True}
    assert faults_of(lambda: edits.event_type_removed(DOCUMENT, "user.registered")) == []
    gone = faults_of(lambda: edits.event_type_removed(DOCUMENT, "quiz.done"))
    assert ("unknown_event", "!/badges/0/flow/event") in gone
    for name in ("quiz.done", "QuizDone"):
        with pytest.raises(Taken):
            edits.event_type_added(DOCUMENT, {"name": name})


@pytest.mark.parametrize(
    ("sent", "found"),
    [
        ([], [("bad_operand", "")]),
        ({}, [("missing_key", "")]),
        ({"name": 7}, [("bad_operand", "/name")]),
        ({"name": ""}, [("bad_operand", "/name")]),
        ({"name": "with space"}, [("invalid_key", "/name")]),
        ({"name": "cron.daily"}, [("invalid_key", "/name")]),
        ({"name": "a.done", "schema": []}, [("invalid_schema", "/schema")]),
        ({"name": "a.done", "schema": {"type": "nosuch"}}, [("invalid_schema", "/schema")]),
        ({"name": "a.done", "shema": {}}, [("unknown_key", "/shema")]),
        ({"name": "a/b", "schema": 1}, [("invalid_key", "/name")]),
    ],
)
def test_faults_of_event_types_point_into_what_was_sent(sent: Any, found: list[tuple[str, str]]) -> None:
    """A faulty name is told at `name`, everything else at its key."""
    assert faults_of(lambda: edits.event_type_added(DOCUMENT, sent))[: len(found)] == found


def test_a_change_that_breaks_a_badge_says_so_of_the_badge() -> None:
    """A schema without the field a badge asks for is no fault of what was sent, but of the badge."""
    sent = {"schema": {"properties": {"item": {}}}}
    found = faults_of(lambda: edits.event_type_changed(DOCUMENT, "quiz.done", sent, whole=True))
    assert ("unknown_field", "!/badges/0/flow/criteria/score") in found


def test_condition_types_are_added_changed_and_removed() -> None:
    """A condition type is an entry of its list; what still asks one that is gone is told."""
    added = edits.condition_type_added(DOCUMENT, {"name": "late", "source": "() => 1", "params": {"type": "object"}})
    assert added.document["condition_types"][1]["name"] == "late"
    changed = edits.condition_type_changed(DOCUMENT, "big", {"description": "d"}, whole=False)
    assert changed.document["condition_types"] == [{"name": "big", "source": "(event) => true", "description": "d"}]
    assert edits.condition_type_removed(DOCUMENT, "big").document["condition_types"] == []
    with pytest.raises(Taken):
        edits.condition_type_added(DOCUMENT, {"name": "big", "source": "x"})
    assert faults_of(lambda: edits.condition_type_added(DOCUMENT, {"name": "x y", "source": 1})) == [
        ("bad_operand", "/name"),
        ("bad_operand", "/source"),
    ]
    for act in (
        lambda: edits.condition_type_changed(DOCUMENT, "big", {"name": "small"}, whole=True),
        lambda: edits.event_type_changed(DOCUMENT, "quiz.done", {"name": "quiz.ended"}, whole=False),
    ):
        assert faults_of(act) == [("bad_operand", "/name")]
    assert faults_of(lambda: edits.badge_changed(DOCUMENT, BADGES["ten"], {"key": "x"}, whole=False)) == [
        ("bad_operand", "/key")
    ]


def test_warnings_are_no_faults_of_an_edit() -> None:
    """What `--strict` alone would refuse is not told as a fault."""
    warning = Fault("name_style", "/events/a.done", "…", severity="warning")
    edit = edits.event_type_added(DOCUMENT, {"name": "a.done"})
    assert edit.told([warning, replace(warning, severity="error")]) == (
        [Fault("name_style", "/name", "…")],
        [],
    )


def test_what_an_edit_touches() -> None:
    """Looks and criteria are told apart, and what stays as JSON is not touched."""
    assert touched(None, CATALOG) == touched(CATALOG, CATALOG) == Touched()
    flow = {"criteria": {"score": {"$gte": Decimal("10.0")}}, "event": "quiz.done"}
    document = edits.badge_changed(DOCUMENT, BADGES["ten"], {"flow": flow, "icon": "moon"}, whole=False).document
    document = edits.badge_changed(document, BADGES["sketch"], {"flow": {"event": "quiz.done"}}, whole=False).document
    document = edits.event_type_changed(document, "user.registered", {"login": True}, whole=True).document
    document = edits.condition_type_changed(document, "big", {"description": "d"}, whole=False).document
    assert touched(CATALOG, catalog_from_document(document, 2)) == Touched(
        badges=frozenset({"ten", "sketch"}),
        criteria=frozenset({"sketch"}),
        event_types=frozenset({"user.registered"}),
        condition_types=frozenset({"big"}),
    )
