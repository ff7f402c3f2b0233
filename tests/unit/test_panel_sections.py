"""Ladders, tenures, milestones, event types and condition types in the panel: forms, faults at fields, previews."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.desk import FakeDesk, catalog_of, document, panel
from tests.unit.serving import FakeStore, client, fakes
from tests.unit.serving_catalog import FakeCatalogs, FakeRehearsals, Unasked
from tests.unit.test_panel import check_markup
from worker.admin.app import build
from worker.admin.panel.kinds import KINDS
from worker.admin.panel.making import entry_of, judge_entry, values_of
from worker.admin.roles import Role
from worker.config import load_settings

NEW: dict[str, dict[str, str]] = {
    "ladders": {"key": "writer", "metric": "comments", "levels": "1, 2.5, 3", "label": "Writer"},
    "tenures": {"key": "member", "since": "comment.posted", "years": "1, 2", "label": "Member"},
    "milestones": {
        "code": "momentum",
        "title": "Momentum",
        "trigger_event": "comment.posted",
        "rule_type": "window_count",
        "rule_data": '{"event": "comment.posted", "count": 5, "window_days": 14}',
    },
    "event-types": {"name": "order.paid", "aliases": "OrderPaid, Paid", "schema": '{"type": "object"}'},
    "condition-types": {"name": "big", "source": "(event, params) => true", "params": ""},
}


def author(desk: FakeDesk, store: FakeStore | None = None) -> Any:
    """A client with the role author."""
    return client(panel(desk, store), Role.AUTHOR)


@pytest.mark.parametrize("kind", NEW)
def test_a_new_entry_becomes_a_proposal(kind: str) -> None:
    """A clean form of each kind leads to a preview of the catalog with that entry; nothing is applied before."""
    desk = FakeDesk()
    went = author(desk).post(f"/panel/catalog/sections/{kind}/new", data={"animation": "none", **NEW[kind]})
    assert went.headers["location"] == "/panel/catalog/proposals/p0", went.text
    (made,) = desk.proposals.values()
    section = KINDS[kind].section
    changed = made.found.new.document[section]
    names = list(changed) if isinstance(changed, dict) else [entry[KINDS[kind].own] for entry in changed]
    assert names[-1] == NEW[kind][KINDS[kind].own]
    assert desk.applied == []


@pytest.mark.parametrize("kind", ["ladders", "event-types"])
async def test_an_entry_sent_as_it_is_changes_nothing(kind: str) -> None:
    """What a form shows of an entry is the entry: sent back, the catalog is the same."""
    catalog = catalog_of(document())
    for name in {"ladders": ["commentator"], "event-types": ["question.scored", "comment.posted"]}[kind]:
        entry = entry_of(catalog, KINDS[kind], name)
        assert entry is not None
        judged = await judge_entry(FakeDesk(), catalog, KINDS[kind], name, values_of(KINDS[kind], name, entry))
        assert judged.clean, judged.marks
        assert judged.edit is not None
        assert judged.edit.document == catalog.document


@pytest.mark.parametrize(
    ("kind", "values", "field", "line"),
    [
        ("ladders", {"levels": "10, ten"}, "f-levels", 0),
        ("ladders", {"levels": "10, 5"}, "f-levels", 0),
        ("ladders", {"metric": "coments"}, "f-metric", 0),
        ("ladders", {"key": ""}, "f-key", 0),
        ("ladders", {"key": "commentator"}, "f-key", 0),
        ("tenures", {"since": "comment.pasted"}, "f-since", 0),
        (
            "milestones",
            {"rule_data": '{\n "event": "comment.posted",\n "count": "x", "window_days": 14}'},
            "f-rule_data",
            3,
        ),
        ("milestones", {"rule_data": "{"}, "f-rule_data", 1),
        ("event-types", {"schema": '{"type":\n "objekt"}'}, "f-schema", 1),
        ("event-types", {"name": "comment.posted"}, "f-name", 0),
        ("condition-types", {"name": ""}, "f-name", 0),
    ],
)
async def test_faults_name_their_field(kind: str, values: dict[str, str], field: str, line: int) -> None:
    """Each fault names the field to mend; one inside of JSON also its line."""
    judged = await judge_entry(FakeDesk(), catalog_of(document()), KINDS[kind], None, {**NEW[kind], **values})
    assert not judged.clean
    assert (field, line) in {(mark.field, mark.line) for mark in judged.marks}, judged.marks


def test_an_entry_is_changed() -> None:
    """A changed ladder keeps what its form does not show; one that is emptied loses its key; faults give 422."""
    desk = FakeDesk()
    user = author(desk)
    faulty = user.post("/panel/catalog/sections/ladders/commentator/edit", data={"metric": "comments", "levels": "x"})
    assert faulty.status_code == 422
    assert 'href="#f-levels"' in faulty.text
    check_markup(faulty.text)
    said = user.post("/panel/_/lint/ladders?name=commentator", data={"metric": "comments", "levels": "10, 20"})
    assert "Reads as" in said.text
    assert "20" in said.text
    form = {"metric": "comments", "levels": "10, 50, 100", "label": "", "animation": "none", "status": ""}
    went = user.post("/panel/catalog/sections/ladders/commentator/edit", data=form)
    assert went.status_code == 303
    (made,) = desk.proposals.values()
    assert made.found.new.document["ladders"] == [{"key": "commentator", "metric": "comments", "levels": [10, 50, 100]}]
    assert user.get("/panel/badges/commentator_10/edit").headers["location"].endswith("/ladders/commentator/edit")


def test_what_is_not_there() -> None:
    """Unknown kinds and names are told; a catalog managed by a file takes no change."""
    user = author(FakeDesk())
    for path in ("sections/nothing", "sections/ladders/none/edit", "sections/condition-types/none/edit"):
        assert user.get(f"/panel/catalog/{path}").status_code == 404
    managed = author(FakeDesk(managed_by_file=True))
    assert managed.get("/panel/catalog/sections/ladders/new").status_code == 409
    assert managed.post("/panel/catalog/sections/ladders/new", data=NEW["ladders"]).status_code == 409
    assert "New ladder" not in managed.get("/panel/catalog/sections/ladders").text


def test_a_condition_is_tried_before_it_is_saved() -> None:
    """The source as it stands in the form answers, faults are told at their fields."""
    desk = FakeDesk()
    parts = {"rehearsal": FakeRehearsals(Unasked(), load_settings(js="on")), "catalog": FakeCatalogs(document())}
    services = fakes(FakeStore(), **parts)
    user = client(build(services, load_settings(), desk=desk), Role.AUTHOR)
    event = '{"type": "question.scored", "payload": {"score": 12}}'
    form = {"name": "big", "source": "(event, params) => event.payload.score > params.over", "trial_event": event}
    form["params"] = '{"type": "object"}'
    tried = "/panel/catalog/condition-types/try"
    for over, said in ((10, "yes"), (20, "no")):
        got = user.post(tried, data=form | {"trial_params": json.dumps({"over": over})})
        assert got.status_code == 200, got.text
        assert f"</svg>{said}</span>" in got.text[got.text.index('id="verdict"') :]
        check_markup(got.text)
    assert user.post(tried, data=form | {"source": "(event) => nothing.here"}).text.count('id="verdict"') == 1
    for wrong, field in (({"trial_event": "{"}, "t-event"), ({"name": ""}, "f-name")):
        got = user.post(tried, data=form | wrong)
        assert got.status_code == 422
        assert f'href="#{field}"' in got.text
    assert user.post(f"{tried}?name=none", data=form).status_code == 404
    assert desk.proposals == {}
