"""The catalog over HTTP: document 2's walk-through, refusals with pointers, and what each role sees."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.serving import FakeStore, client, served
from tests.unit.serving_catalog import FakeCatalogs
from worker.admin.roles import Role
from worker.errors import TransientError

EVENT_TYPE = {
    "name": "simple_event_1742134382840",
    "description": "Simple test event",
    "schema": {"type": "object", "properties": {"value": {"type": "number"}}},
}
BADGE = {
    "name": "Simple Badge_1742134382840",
    "description": "Simple test badge",
    "image_url": "https://example.com/badge.png",
    "flow_definition": {"event": "simple_event", "criteria": {"value": {"$gte": 50}}},
    "is_active": True,
}
TYPES, BADGES, CONDITIONS = (f"/api/v1/admin/{name}" for name in ("event-types", "badges", "condition-types"))


def asking(role: Role = Role.AUTHOR, catalogs: FakeCatalogs | None = None, store: FakeStore | None = None) -> Any:
    """A client of a role, on a catalog of its own."""
    return client(served(store, parts={"catalog": catalogs or FakeCatalogs()}), role)


def test_a_change_in_place_is_warned_of() -> None:
    """Awards of the old test stay and look like those of the new one: the answer says so, where there are any."""
    catalogs = FakeCatalogs()
    author = asking(catalogs=catalogs)
    assert "warnings" not in author.post(BADGES, json=BADGE).json()
    address = f"{BADGES}/simple_badge_1742134382840"

    def lifted(score: int, method: str = "PATCH", **more: Any) -> Any:
        flow = {"event": "simple_event", "criteria": {"value": {"$gte": score}}}
        answer = author.request(method, address, json={"flow_definition": flow, **more})
        assert answer.status_code == 200, answer.text
        return answer.json().get("warnings")

    assert lifted(60) is None, "nobody holds it"
    catalogs.held["simple_badge_1742134382840"] = 1204
    (warning,) = lifted(70)
    assert (warning["code"], warning["path"]) == ("changed_in_place", "/flow_definition")
    assert "the 1,204 awards given at 60 stay and will look like those given at 70" in warning["message"]
    assert lifted(70, description="other words") is None, "the test is the same"
    assert len(lifted(80, "PUT", name="Simple Badge_1742134382840")) == 1
    catalogs.held["simple_badge_1742134382840"] = None
    assert "the awards given at 80 stay" in lifted(90)[0]["message"]
    rule = {"event": "simple_event", "badge_id": "simple_badge_1742134382840", "operator": "and"}
    condition = {"field": "value", "operator": "gte", "value": 5}
    made = author.post("/api/v1/admin/rules", json={**rule, "conditions": [condition]})
    assert [one["code"] for one in made.json()["warnings"]] == ["changed_in_place"], made.text


def refusal(answer: Any) -> tuple[int, str, list[str]]:
    """Status, code and the paths of the details."""
    error = answer.json()["error"]
    return answer.status_code, error["code"], [detail["path"] for detail in error["details"]]


def test_the_walk_through_of_document_2() -> None:
    """Event type and badge are made as the older system makes them, and read again as they were sent."""
    author = asking(catalogs=FakeCatalogs(None))
    made = author.post(TYPES, json=EVENT_TYPE)
    assert made.status_code == 201
    body = made.json()
    assert {name: body[name] for name in EVENT_TYPE} == EVENT_TYPE
    assert type(body["id"]) is int
    assert body["created_at"] == body["updated_at"]
    flow = {"event": EVENT_TYPE["name"], "criteria": {"value": {"$gte": 50}}}
    made = author.post(BADGES, json=BADGE | {"flow_definition": flow})
    assert made.status_code == 201
    badge, criteria = made.json()["badge"], made.json()["criteria"]
    assert {"name": BADGE["name"], "description": BADGE["description"], "image_url": BADGE["image_url"]}.items() <= (
        badge.items()
    )
    assert (badge["active"], badge["key"]) == (True, "simple_badge_1742134382840")
    assert criteria["flow_definition"] == flow
    assert criteria["badge_id"] == criteria["id"] == badge["id"]
    assert {type(badge["id"]), type(criteria["id"])} == {int}
    for ref in (badge["id"], badge["key"], badge["name"]):
        assert author.get(f"{BADGES}/{ref}/criteria").json() == criteria
        assert author.get(f"{BADGES}/{ref}").json() == made.json()
        assert author.get(f"/api/v1/badges/{ref}").json()["id"] == badge["id"]
    for ref in (body["id"], body["name"]):
        assert author.get(f"{TYPES}/{ref}").json() == body


def test_numbers_come_back_as_they_were_sent() -> None:
    """A flow's figures are not rounded on the way through."""
    flow = '{"event":"simple_event","criteria":{"value":{"$gte":0.10000000000000000001}}}'
    text = f'{{"name":"Exact","flow_definition":{flow}}}'
    author = asking()
    made = author.post(BADGES, content=text, headers={"Content-Type": "application/json"})
    assert made.status_code == 201
    assert '"$gte":0.10000000000000000001' in author.get(f"{BADGES}/exact/criteria").text


def test_badges_change_and_are_never_gone() -> None:
    """PUT, PATCH and DELETE make versions; a deleted badge is deprecated, keeps its id, and says when it changed."""
    store = FakeStore()
    author = asking(store=store)
    badge = author.post(BADGES, json=BADGE).json()["badge"]
    changed = author.patch(f"{BADGES}/{badge['id']}", json={"name": "Renamed", "icon": "star"}).json()["badge"]
    assert (changed["name"], changed["key"]) == ("Renamed", badge["key"])
    assert changed["updated_at"] > badge["updated_at"]
    assert changed["created_at"] == badge["created_at"]
    put = author.put(f"{BADGES}/{badge['key']}", json=BADGE | {"description": "Other"}).json()
    assert put["badge"]["description"] == "Other"
    assert author.get(f"/api/v1/badges/{badge['id']}").json()["icon"] is None
    gone = author.delete(f"{BADGES}/{badge['key']}")
    assert (gone.status_code, gone.json()["badge"]["active"], gone.json()["badge"]["status"]) == (
        200,
        False,
        "deprecated",
    )
    assert author.get(f"{BADGES}/{badge['id']}").json()["badge"]["id"] == badge["id"]
    again = author.patch(f"{BADGES}/{badge['id']}", json={"is_active": True}).json()["badge"]
    assert again["active"] is True
    assert [change[1] for change in store.changes] == [
        "badge.created",
        "badge.changed",
        "badge.changed",
        "badge.deprecated",
        "badge.changed",
    ]
    assert {change[0] for change in store.changes} == {"author token"}
    assert store.changes[1][2] == f"badge {badge['key']}"


def test_what_each_role_sees() -> None:
    """Everybody sees active and locked badges; authors see all of them; /active is exactly the active ones."""
    catalogs = FakeCatalogs()
    reader, author = asking(Role.READER, catalogs), asking(Role.AUTHOR, catalogs)
    shown = {badge["key"] for badge in reader.get("/api/v1/badges").json()}
    assert shown == {"first", "regular_1", "regular_5"}
    assert {badge["key"] for badge in author.get("/api/v1/badges").json()} == shown | {"secret", "sketch"}
    assert {badge["status"] for badge in author.get("/api/v1/badges/active").json()} == {"active"}
    one = reader.get("/api/v1/badges/regular_5").json()
    assert (one["name"], one["tier"], one["kind"], one["holders"], one["share"]) == ("Regular II", 2, "ladder", 3, 0.25)
    assert reader.get("/api/v1/badges/secret").status_code == 404
    assert author.get("/api/v1/badges/secret").status_code == 200
    assert refusal(reader.get("/api/v1/badges/sketch"))[0] == 404
    assert author.get("/api/v1/badges/sketch").status_code == 200


@pytest.mark.parametrize(
    "address", ["/api/v1/badges", "/api/v1/admin/badges", "/api/v1/admin/event-types?builtin=true"]
)
def test_lists_come_in_pages(address: str) -> None:
    """With a limit a list comes in pages that join to the whole one; `Link` leads from each to the next."""
    author = asking()
    whole = author.get(address).json()
    found, pages = [], 0
    url = f"{address}{'&' if '?' in address else '?'}limit=2"
    while url:
        answer = author.get(url)
        assert len(answer.json()) <= 2
        found += answer.json()
        pages += 1
        link = answer.headers.get("link", "")
        assert not link or link.endswith('>; rel="next"')
        url = link.partition(">")[0].lstrip("<")
    assert (found, pages) == (whole, -(-len(whole) // 2))


@pytest.mark.parametrize("cursor", ["x", "AAAAAAAAAAAA", "é", "eyJhIjoxfQ", "'; drop table", "0" * 2_001])
def test_a_forged_cursor_is_refused(cursor: str) -> None:
    """A cursor that this list did not give is no position."""
    status, code, paths = refusal(asking().get("/api/v1/badges", params={"limit": 1, "cursor": cursor}))
    assert (status, code) in ((400, "bad_cursor"), (422, "invalid"))
    assert paths == ["?cursor"]


def test_a_cursor_of_another_list_is_refused() -> None:
    """Positions of one list mean nothing in another."""
    author = asking()
    link = author.get("/api/v1/badges?limit=1").headers["link"]
    cursor = link.partition("cursor=")[2].partition(">")[0]
    assert refusal(author.get(f"{TYPES}?limit=1&cursor={cursor}"))[:2] == (400, "bad_cursor")


def test_event_types_change_and_go() -> None:
    """A type is changed in place and removed where nothing names it; a built-in one stays as it is."""
    author = asking()
    assert author.patch(f"{TYPES}/OrderPaid", json={"description": "Paid."}).json()["description"] == "Paid."
    put = author.put(f"{TYPES}/order.paid", json={"name": "order.paid", "login": True}).json()
    assert (put["description"], put["aliases"], put["login"], put["schema"]) == ("", [], True, {})
    gone = author.delete(f"{TYPES}/order.paid")
    assert (gone.status_code, gone.json()["name"]) == (200, "order.paid")
    assert refusal(author.get(f"{TYPES}/order.paid"))[0] == 404
    again = author.post(TYPES, json={"name": "order.paid"}).json()
    assert again["id"] == gone.json()["id"]
    status, code, _ = refusal(author.delete(f"{TYPES}/simple_event"))
    assert (status, code) == (409, "conflict")
    assert refusal(author.delete(f"{TYPES}/cron.anniversary"))[0] == 409
    assert author.get(f"{TYPES}/cron.anniversary").json()["builtin"] is True


@pytest.mark.parametrize(
    ("method", "address", "body", "found"),
    [
        ("POST", TYPES, {"name": "simple_event"}, (409, "conflict", [])),
        ("POST", TYPES, {"name": "OrderPaid"}, (409, "conflict", [])),
        ("POST", TYPES, {}, (422, "invalid", [""])),
        ("POST", TYPES, {"name": 5}, (422, "invalid", ["/name"])),
        ("POST", TYPES, [], (422, "invalid", [""])),
        ("POST", TYPES, {"name": "a.b", "schema": {"type": "nope"}}, (422, "invalid", ["/schema"])),
        ("PUT", f"{TYPES}/nobody", {}, (404, "not_found", [])),
        ("PATCH", f"{TYPES}/simple_event", {"name": "other"}, (422, "invalid", ["/name"])),
        ("PATCH", f"{TYPES}/simple_event", {"schema": {"properties": {"x": {}}}}, (200, "", [])),
        ("POST", BADGES, BADGE | {"name": "First"}, (409, "conflict", [])),
        ("POST", BADGES, BADGE | {"name": "regular 5"}, (409, "conflict", [])),
        ("POST", BADGES, {"name": "x"}, (422, "invalid", ["/flow_definition"])),
        ("POST", BADGES, {"flow_definition": {}}, (422, "invalid", [""])),
        (
            "POST",
            BADGES,
            BADGE | {"flow_definition": {"event": "simple_event", "criteria": {"valeu": {"$gte": 1}}}},
            (422, "invalid", ["/flow_definition/criteria/valeu"]),
        ),
        (
            "POST",
            BADGES,
            BADGE | {"animation": {"kind": "webm", "url": "javascript:alert(1)"}},
            (422, "invalid", ["/animation/url"]),
        ),
        ("POST", BADGES, BADGE | {"animation": {"kind": "webm"}}, (422, "invalid", ["/animation"])),
        (
            "POST",
            BADGES,
            BADGE | {"flow_definition": {"event": "no.such", "criteria": {}}, "image_url": "http://x"},
            (422, "invalid", ["/image_url", "/flow_definition/event"]),
        ),
        ("POST", BADGES, BADGE | {"flow_definition": {"steps": []}}, (422, "invalid", ["/flow_definition/steps"])),
        ("PATCH", f"{BADGES}/regular_5", {"name": "x"}, (409, "conflict", [])),
        ("DELETE", f"{BADGES}/regular_5", None, (409, "conflict", [])),
        ("PATCH", f"{BADGES}/nobody", {"name": "x"}, (404, "not_found", [])),
        ("PATCH", f"{BADGES}/first", {"is_active": 1}, (422, "invalid", ["/is_active"])),
        ("DELETE", f"{BADGES}/999", None, (404, "not_found", [])),
        ("POST", CONDITIONS, {"name": "x"}, (422, "invalid", [""])),
        ("POST", CONDITIONS, {"name": "x", "source": ""}, (422, "invalid", ["/source"])),
        ("GET", f"{CONDITIONS}/nobody", None, (404, "not_found", [])),
    ],
)
def test_refusals_name_the_place(method: str, address: str, body: Any, found: tuple[int, str, list[str]]) -> None:
    """What is wrong is told with a code and a pointer that begins at the body."""
    answer = asking().request(method, address, json=body)
    if found[0] == 200:
        # no flow of the catalog names a field of this type, so that another schema harms nobody
        assert answer.status_code == 200
    else:
        assert refusal(answer) == found


def test_faults_carry_codes_and_remedies() -> None:
    """A fault says what `catalog lint` says of it."""
    flow = {"event": "simple_event", "criteria": {"valeu": {"$gte": 1}}}
    (detail,) = asking().post(BADGES, json=BADGE | {"flow_definition": flow}).json()["error"]["details"]
    assert detail["code"] == "unknown_field"
    assert 'Write "value"' in detail["help"]


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b'{"name": NaN}', 400),
        (b'"' + b"x" * 300_000 + b'"', 413),
        (b"[" * 40 + b"]" * 40, 422),
        (b'{"name": "a\\u0000b"}', 422),
        (b"\xff", 400),
    ],
)
def test_bodies_that_are_no_json(content: bytes, status: int) -> None:
    """A body that cannot be read is refused before anything looks at it."""
    answer = asking().post(BADGES, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    assert refusal(answer)[0] == status


def test_a_catalog_managed_by_a_file_is_not_changed_here() -> None:
    """With BADGES_CATALOG_MANAGED=file edits are 409, with the reason."""
    catalogs = FakeCatalogs()
    catalogs.managed_by_file = True
    answer = asking(catalogs=catalogs).post(BADGES, json=BADGE)
    assert refusal(answer)[0] == 409
    assert "file" in answer.json()["error"]["message"]


def test_an_expected_version_guards_an_edit() -> None:
    """Who names the version they looked at is refused where another one rules."""
    author = asking()
    assert refusal(author.post(f"{BADGES}?expect_version=7", json=BADGE))[0] == 409
    assert author.post(f"{BADGES}?expect_version=1", json=BADGE).status_code == 201


def test_a_name_without_letters_gets_a_key_of_its_number() -> None:
    """A badge whose name gives no key is called by its id."""
    badge = asking().post(BADGES, json=BADGE | {"name": "日本語"}).json()["badge"]
    assert badge["key"] == f"badge_{badge['id']}"


def test_condition_types() -> None:
    """Conditions are made, read, changed and removed; where none may run, a test run says so."""
    author = asking()
    sent = {"name": "big", "description": "d", "source": "(event, params) => true", "params": {"type": "object"}}
    made = author.post(CONDITIONS, json=sent)
    assert made.status_code == 201
    assert sent.items() <= made.json().items()
    assert type(made.json()["id"]) is int
    assert author.get(CONDITIONS).json() == [made.json()]
    assert author.get(f"{CONDITIONS}/{made.json()['id']}").json() == made.json()
    changed = author.patch(f"{CONDITIONS}/big", json={"description": None}).json()
    assert (changed["description"], changed["source"]) == ("", sent["source"])
    assert refusal(author.post(CONDITIONS, json=sent))[0] == 409
    trial = author.post(f"{CONDITIONS}/big/test", json={"event": {"type": "simple_event"}})
    assert refusal(trial)[0] == 409
    assert "BADGES_JS" in trial.json()["error"]["message"]
    wrong = author.post(f"{CONDITIONS}/big/test", json={"event": {"type": "no.such"}})
    assert refusal(wrong) == (422, "invalid", ["/event/type"])
    assert author.delete(f"{CONDITIONS}/big").status_code == 200
    assert author.get(CONDITIONS).json() == []


def test_rules_become_flows() -> None:
    """A rule of document 3 is shown as a flow; with a badge it becomes that badge's criteria."""
    author = asking()
    number = author.get(f"{TYPES}/simple_event").json()["id"]
    rule = {
        "EventTypeID": number,
        "Operator": "and",
        "Conditions": [{"Field": "value", "Operator": "gt", "ExpectedValue": "90"}],
    }
    flow = {"event": "simple_event", "criteria": {"value": {"$gt": 90}}}
    answer = author.post("/api/v1/admin/rules", json=rule)
    assert (answer.status_code, answer.json()) == (201, {"flow_definition": flow, "badge": None, "criteria": None})
    badge = author.get(f"{BADGES}/first").json()["badge"]
    answer = author.post("/api/v1/admin/rules", json={**rule, "BadgeID": badge["id"]})
    assert answer.status_code == 201
    assert (
        answer.json()["criteria"]["flow_definition"]
        == author.get(f"{BADGES}/first/criteria").json()["flow_definition"]
        == flow
    )
    wrong = author.post("/api/v1/admin/rules", json={**rule, "Conditions": [{"Field": "value", "Operator": "like"}]})
    assert refusal(wrong) == (422, "invalid", ["/Conditions/0/Operator"])


def test_scripts_in_names_stay_text() -> None:
    """What looks like markup is text: it comes back as it was sent, as JSON that no browser takes for a page."""
    name = "<script>alert(1)</script>"
    answer = asking().post(BADGES, json=BADGE | {"name": name, "key": "marked"})
    assert answer.json()["badge"]["name"] == name
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_database_away_is_503() -> None:
    """While the database cannot be reached, nothing is changed and the client is told when to come again."""

    class Away(FakeCatalogs):
        async def view(self) -> Any:
            raise TransientError("PostgreSQL cannot be reached.")

        async def edit(self, *arguments: Any, **options: Any) -> Any:
            raise TransientError("PostgreSQL cannot be reached.")

    author = asking(catalogs=Away())
    for answer in (author.get("/api/v1/badges"), author.post(BADGES, json=BADGE)):
        assert refusal(answer)[:2] == (503, "unavailable")
        assert int(answer.headers["retry-after"]) > 0


def test_simulations_need_no_user() -> None:
    """Events that are sent are played against the head; faults point to the event and its field."""
    support = asking(Role.SUPPORT)
    event = {"type": "simple_event", "user_id": "u1", "occurred_at": "2026-03-01T12:00:00Z", "payload": {"value": 1}}
    answer = support.post("/api/v1/admin/simulate", json={"events": [event, {**event, "user_id": "u2"}]})
    assert answer.status_code == 200, answer.text
    assert answer.json()["events"] == 2
    assert {(one["user_id"], one["badge_key"]) for one in answer.json()["awards"]} >= {
        ("u1", "first"),
        ("u2", "secret"),
    }
    assert not any("revoked_at" in one for one in answer.json()["awards"])
    taken = {"type": "grant.revoked", "user_id": "u1", "occurred_at": "2026-03-01T12:00:01Z"}
    taken["payload"] = {"badge_key": "first", "note": "a bot", "actor": "anna"}
    answer = support.post("/api/v1/admin/simulate", json={"events": [event, taken]})
    (first,) = [one for one in answer.json()["awards"] if one["badge_key"] == "first"]
    assert (first["revoked_at"], first["revoked_why"]) == ("2026-03-01T12:00:01Z", "a bot")
    wrong = support.post("/api/v1/admin/simulate", json={"events": [event, {**event, "payload": {"value": "x"}}]})
    assert refusal(wrong) == (422, "invalid", ["/events/1/payload/value"])
    assert refusal(support.post("/api/v1/admin/simulate", json={"events": 5})) == (422, "invalid", ["/events"])
    set_ = support.post("/api/v1/admin/simulate", json={"events": [event], "set": {"events": 5, "nope": 1}})
    assert refusal(set_) == (422, "invalid", ["/set/nope"])
    given = support.post("/api/v1/admin/simulate", json={"events": [event], "set": {"events": 5}}).json()["awards"]
    assert "regular_5" in {one["badge_key"] for one in given}
    assert json.dumps(given)


def test_simulated_awards_come_in_order_of_time() -> None:
    """Awards are told in order of their instants, also where one has parts of a second and another has none."""
    event, parts = {"type": "simple_event", "payload": {"value": 1}}, [("z", ""), ("a", ".5")]
    events = [{**event, "user_id": user, "occurred_at": f"2026-03-01T12:00:00{part}Z"} for user, part in parts]
    told = asking(Role.SUPPORT).post("/api/v1/admin/simulate", json={"events": events}).json()["awards"]
    assert [one["user_id"] for one in told if one["badge_key"] == "first"] == [user for user, _ in parts]
