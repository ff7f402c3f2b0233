"""Profiles, the feed and acts over HTTP: how pages are sorted, worded and kept, and what is sent to the worker."""

from __future__ import annotations

import itertools
import json
from base64 import b64decode
from dataclasses import replace
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.unit.serving import TOKENS, Clock, FakeOutlet, FakeStore, client, served
from tests.unit.serving_catalog import DOCUMENT, NOON, FakeAwards, FakeCatalogs, FakeProfiles, award, logged
from worker.admin.profiles import accepted_languages
from worker.admin.roles import Role
from worker.app.feed import News
from worker.errors import TransientError
from worker.store.profiles import FeedPlace

PROFILE = "/api/v1/users/u1/badges"
TRANSLATED = {
    **DOCUMENT,
    "events": {**DOCUMENT["events"], "user.registered": {}},
    "badges": [
        {
            **DOCUMENT["badges"][0],
            "description": "The first",
            "translations": {"de": {"label": "Erste"}, "pt-BR": {"label": "Primeira", "description": "A primeira"}},
        },
        *DOCUMENT["badges"][1:],
        {"key": "old", "flow": {"event": "simple_event"}, "status": "deprecated", "sort_score": 1},
    ],
    "tenures": [
        {
            "key": "member",
            "since": "user.registered",
            "years": [1],
            "label": "Member",
            "description": "Member since {since}",
            "translations": {"de": {"description": "Mitglied seit {since}"}},
        }
    ],
}


def profiles(*held: Any) -> FakeProfiles:
    """What u1 holds."""
    return FakeProfiles({"u1": list(held)})


def asking(role: Role = Role.READER, **parts: Any) -> Any:
    """A client of a role on services in memory."""
    options = {name: parts.pop(name) for name in ("store", "outlet", "now") if name in parts}
    return client(served(parts={"catalog": FakeCatalogs(TRANSLATED), **parts}, **options), role)


def refusal(answer: Any) -> tuple[int, list[str]]:
    """Status and the paths of the details."""
    return answer.status_code, [detail["path"] for detail in answer.json()["error"]["details"]]


def test_nobody_has_an_empty_profile() -> None:
    """A user nobody knows holds nothing: an empty array, no refusal."""
    answer = asking().get("/api/v1/users/nobody/badges")
    assert (answer.status_code, answer.json()) == (200, [])


def test_a_profile_has_the_keys_of_document_2() -> None:
    """Each item has the older system's keys with its types, metadata as base64 of JSON, and the badge's looks."""
    (item,) = asking(profiles=profiles(award("first", metadata='{"last_event_id": "500"}'))).get(PROFILE).json()
    assert {
        "id": 101,
        "name": "First",
        "description": "The first",
        "image_url": None,
        "awarded_at": "2026-03-01T12:00:00.000000Z",
        "key": "first",
        "context": "",
        "tooltip": "The first",
        "status": "active",
        "origin": "live",
    }.items() <= item.items()
    assert json.loads(b64decode(item["metadata"])) == {"last_event_id": "500"}
    (item,) = asking(profiles=profiles(award("first"))).get(PROFILE, params={"metadata": "object"}).json()
    assert item["metadata"] == {"last_event_id": "500"}


def test_profiles_are_sorted_for_show() -> None:
    """By override, else score, highest first; then the newest; deprecated ones stay, hidden ones are for the holder."""
    held = [
        award("old", awarded_us=NOON),
        award("secret", awarded_us=NOON),
        award("secret", context="b", awarded_us=NOON + 1),
        award("first"),
        award("regular_5", sort_override=100),
        award("sketch", sort_override=1_000),
        award("gone_for_good"),
    ]
    reader = asking(profiles=profiles(*held))
    own, theirs = reader.get(PROFILE, params={"hidden": "true"}), reader.get(PROFILE)
    shown = [(item["key"], item["context"]) for item in own.json()]
    assert shown == [("regular_5", ""), ("first", ""), ("old", ""), ("secret", "b"), ("secret", "")]
    assert [item["key"] for item in theirs.json()] == ["regular_5", "first", "old"]
    assert own.headers["etag"] != theirs.headers["etag"]
    assert reader.get(PROFILE, params={"hidden": "false"}).content == theirs.content
    assert [item["key"] for item in reader.get(PROFILE, params={"top": 2}).json()] == ["regular_5", "first"]


@pytest.mark.parametrize(
    ("header", "lang", "name"),
    [
        (None, None, "First"),
        ("de", None, "Erste"),
        ("de-AT,en;q=0.5", None, "Erste"),
        ("en-GB,de;q=0.9", None, "First"),
        ("fr,de;q=0.5", None, "Erste"),
        ("de;q=0.1,pt-BR", None, "Primeira"),
        ("de;q=0,fr", None, "First"),
        ("pt;q=x,,;", None, "First"),
        ("en", "de", "Erste"),
        ("de", "xx", "First"),
        (None, "PT-br", "Primeira"),
    ],
)
def test_profiles_speak_the_readers_language(header: str | None, lang: str | None, name: str) -> None:
    """`lang` wins over Accept-Language; the badge's own texts stand where there is no translation."""
    reader = asking(profiles=profiles(award("first")))
    headers = {"Accept-Language": header} if header is not None else {}
    answer = reader.get(PROFILE, headers=headers, params={} if lang is None else {"lang": lang})
    assert answer.json()[0]["name"] == name
    assert "accept-language" in answer.headers["vary"].lower()


def test_a_tenure_says_since_when() -> None:
    """The day from which a tenure counts stands in its text, in each language; an award by hand has its own day."""
    held = award("member_1y", metadata='{"since": "2022-03-04T10:00:00Z"}')
    reader = asking(profiles=profiles(held, award("member_1y", context="x", metadata="{}")))
    assert {item["tooltip"] for item in reader.get(PROFILE).json()} == {
        "Member since 2022-03-04",
        "Member since 2026-03-01",
    }
    assert reader.get(PROFILE, params={"lang": "de", "top": 1}).json()[0]["description"].startswith("Mitglied seit 20")


def test_a_profile_that_stayed_is_not_sent_again() -> None:
    """The entity tag answers 304 until anything on the page changes: an award, its place, the language, the catalog."""
    held = profiles(award("first"))
    catalogs = FakeCatalogs(TRANSLATED)
    reader = asking(profiles=held, catalog=catalogs)
    first = reader.get(PROFILE)
    tag = first.headers["etag"]
    assert first.headers["cache-control"] == "private, no-cache"
    for given in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        same = reader.get(PROFILE, headers={"If-None-Match": given})
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
    tags = {tag}
    for params in ({"lang": "de"}, {"metadata": "object"}, {"top": 1}):
        tags.add(reader.get(PROFILE, params=params).headers["etag"])
    held.held["u1"].append(award("secret", sequence=2))
    tags.add(reader.get(PROFILE).headers["etag"])
    held.held["u1"][0] = held.held["u1"][0]._replace(sort_override=3)
    changed = reader.get(PROFILE, headers={"If-None-Match": tag})
    assert changed.status_code == 200
    tags.add(changed.headers["etag"])
    catalogs.apply({**TRANSLATED, "timezone": "Europe/Berlin"})
    held.version = 2
    tags.add(reader.get(PROFILE).headers["etag"])
    assert len(tags) == 7


@pytest.mark.parametrize(
    ("address", "found"),
    [
        (f"/api/v1/users/{'x' * 201}/badges", (422, ["{user_id}"])),
        ("/api/v1/users/a%00b/badges", (422, ["{user_id}"])),
        (f"{PROFILE}?top=0", (422, ["?top"])),
        (f"{PROFILE}?top=x", (422, ["?top"])),
        (f"{PROFILE}?metadata=xml", (422, ["?metadata"])),
        (f"{PROFILE}?hidden=1", (422, ["?hidden"])),
        ("/api/v1/users/u1/progress?at=yesterday", (422, ["?at"])),
        ("/api/v1/awards?since=yesterday", (422, ["?since"])),
        ("/api/v1/awards?limit=0", (422, ["?limit"])),
        ("/api/v1/awards?limit=5000", (422, ["?limit"])),
        ("/api/v1/awards?origin=x", (422, ["?origin"])),
        ("/api/v1/awards?cursor=abc", (400, ["?cursor"])),
    ],
)
def test_what_cannot_be_asked(address: str, found: tuple[int, list[str]]) -> None:
    """Wrong questions are refused with the place that is wrong."""
    assert refusal(asking().get(address)) == found


def test_users_may_have_any_name() -> None:
    """Slashes, spaces and letters of any script are part of an id."""
    name = "a/b c/ü?#"
    reader = asking(profiles=FakeProfiles({name: [award("first")]}))
    assert len(reader.get("/api/v1/users/a%2Fb%20c%2F%C3%BC%3F%23/badges").json()) == 1


def test_languages_of_a_header() -> None:
    """Tags by weight, then as written; what is malformed or refused is left out."""
    assert accepted_languages("da, en-gb;q=0.8, en;q=0.7, *;q=0.1, x;q=2, y;q=0") == ["da", "en-gb", "en", "*"]
    assert accepted_languages("," * 5_000) == []


def test_support_places_a_badge() -> None:
    """A place by hand is set in one context or in all, is taken back with null, and stands in the audit log."""
    store, held = FakeStore(), profiles(award("first", context="a"), award("first", context="b"))
    support = asking(Role.SUPPORT, store=store, profiles=held)
    answer = support.patch(f"{PROFILE}/first?context=a", json={"sort_override": 7})
    assert (answer.status_code, answer.json()["awards"]) == (200, 1)
    assert support.patch(f"{PROFILE}/101", json={"sort_override": None}).json() == {
        "user_id": "u1",
        "badge_key": "first",
        "sort_override": None,
        "awards": 2,
    }
    assert [change[1:3] for change in store.changes] == [("award.placed", "user u1")] * 2
    for address, body, found in (
        (f"{PROFILE}/secret", {"sort_override": 1}, (404, [])),
        (f"{PROFILE}/nope", {"sort_override": 1}, (404, [])),
        (f"{PROFILE}/first", {}, (422, ["/sort_override"])),
        (f"{PROFILE}/first", {"sort_override": "7"}, (422, ["/sort_override"])),
        (f"{PROFILE}/first", {"sort_override": 2**31}, (422, ["/sort_override"])),
        (f"{PROFILE}/first", {"sort_override": 1, "x": 1}, (422, ["/x"])),
    ):
        assert refusal(support.patch(address, json=body)) == found


def test_progress_and_why() -> None:
    """How far a user is may everybody ask, why is support's to ask; nobody's why is 404."""
    assert asking().get("/api/v1/users/u1/progress").json() == [{"badge_key": "first", "at": NOON}]
    assert asking().get("/api/v1/users/u9/progress").json() == []
    support = asking(Role.SUPPORT)
    assert support.get("/api/v1/users/u1/why/First").json()["badge_key"] == "first"
    for address in ("/api/v1/users/u9/why/first", "/api/v1/users/u1/why/nope"):
        assert refusal(support.get(address))[0] == 404


# ---------------------------------------------------------------- the feed


def test_the_feed_is_paged() -> None:
    """Awards come newest first, in pages that join; filters keep to badge, trigger, origin, user and time."""
    rows = [logged(number) for number in range(1, 8)]
    rows += [logged(8, badge_key="secret", user_id="u2", origin="cron", trigger_type="order.paid", trigger_id="e8")]
    rows += [logged(9, badge_key="left_out", kind="revoked", reason="note", trigger_id=None)]
    reader = asking(awards=FakeAwards(rows))
    whole = reader.get("/api/v1/awards").json()
    assert [one["sequence"] for one in whole] == list(range(9, 0, -1))
    assert (whole[0]["type"], whole[0]["badge_id"], whole[0]["trigger"]) == ("badge.revoked", None, None)
    assert (whole[1]["name"], whole[1]["trigger"]) == ("Secret", {"id": "e8", "type": "order.paid"})
    found, url = [], "/api/v1/awards?limit=4"
    while url:
        answer = reader.get(url)
        found += answer.json()
        url = answer.headers.get("link", "").partition(">")[0].lstrip("<")
    assert found == whole
    for query, sequences in (
        ("badge=Secret", [8]),
        ("trigger=OrderPaid", [8]),
        ("origin=cron", [8]),
        ("user=u2", [8]),
        ("badge=nothing", []),
        ("since=2026-03-01T11:59:00.000008Z", [9, 8]),
    ):
        assert [one["sequence"] for one in reader.get(f"/api/v1/awards?{query}").json()] == sequences


def _lines(text: str) -> list[dict[str, str]]:
    """The fields of each server-sent event."""
    blocks = [block for block in text.split("\n\n") if block.strip()]
    return [dict(line.partition(": ")[::2] for line in block.splitlines()) for block in blocks]


def test_the_feed_comes_in_pages_anyway() -> None:
    """Without a limit the feed, which has no end, comes a hundred at a time, and its description says so."""
    reader = asking(awards=FakeAwards([logged(number) for number in range(1, 102)]))
    first = reader.get("/api/v1/awards")
    assert (len(first.json()), 'rel="next"' in first.headers["link"]) == (100, True)
    told = reader.get("/openapi.json").json()["paths"]["/api/v1/awards"]["get"]["description"]
    assert "in pages also without `limit`: of 100" in told


def test_the_feed_tells_awards_as_they_come() -> None:
    """Each award is an event; the last of a look carries the place to go on from, which comes back as it went."""
    awards = FakeAwards(
        news=[
            News([logged(1), logged(2)], None),
            News([logged(3)], FeedPlace("5:7:6", NOON + 1)),
            News((), FeedPlace("7:7:", NOON + 2), missed=True),
        ]
    )
    reader = asking(awards=awards)
    answer = reader.get("/api/v1/awards/stream")
    assert answer.headers["content-type"].startswith("text/event-stream")
    start, one, two, three, reset, end = _lines(answer.text)
    assert list(start) == ["id"]
    assert [json.loads(event["data"])["sequence"] for event in (one, two, three)] == [1, 2, 3]
    assert "id" not in one
    assert reset["event"] == "reset"
    reader.get("/api/v1/awards/stream", headers={"Last-Event-ID": three["id"]})
    assert awards.asked == [None, ("5:7:6", NOON + 1)]
    assert end["id"] != three["id"]


@pytest.mark.parametrize("given", ["1", "x" * 100, "AAAA"])
def test_a_forged_place_begins_anew(given: str) -> None:
    """An id that is no place is told as `reset`, and the feed goes on from now."""
    awards = FakeAwards()
    answer = asking(awards=awards).get("/api/v1/awards/stream", headers={"Last-Event-ID": given})
    assert answer.status_code == 200
    assert _lines(answer.text)[0]["event"] == "reset"
    assert awards.asked == [None]


def test_a_feed_ends_where_the_database_goes() -> None:
    """A listener is sent away while the database is, and comes back by itself; that is no fault of ours."""

    class Away(FakeAwards):
        async def listen(self, since: Any = None) -> Any:
            async for one in super().listen(since):
                yield one
            raise TransientError("The database is away.")

    app = served(parts={"catalog": FakeCatalogs(), "awards": Away()})
    reader = TestClient(app, "http://localhost", headers={"Authorization": f"Bearer {TOKENS[Role.READER]}"})
    answer = reader.get("/api/v1/awards/stream")
    assert (answer.status_code, len(_lines(answer.text))) == (200, 1)


# ---------------------------------------------------------------- acts

#: Badges that are given once, for each value of a field, to nobody yet, and to nobody any more.
ACTS_ON = {
    **DOCUMENT,
    "badges": [
        *DOCUMENT["badges"],
        {"key": "each", "label": "Each", "flow": {"event": "simple_event"}, "per": "item"},
        {"key": "over", "label": "Over", "flow": {"event": "simple_event"}, "status": "deprecated"},
    ],
}
ACTS = {
    "grants": {"user_id": "u1", "badge_key": "first", "note": "was there"},
    "revocations": {"user_id": "u1", "badge_key": "first", "note": "imported twice"},
    "recompute": {"user_id": "u1", "badges": ["first"], "note": ""},
}


@pytest.mark.parametrize(
    ("act", "kind"), [("grants", "grant.added"), ("revocations", "grant.revoked"), ("recompute", "recompute.requested")]
)
def test_acts_are_events_for_the_worker(act: str, kind: str) -> None:
    """An act is stored on the control topic before it is answered, and written down with who did it."""
    store, outlet = FakeStore(), FakeOutlet()
    support = asking(Role.SUPPORT, store=store, outlet=outlet)
    answer = support.post(f"/api/v1/admin/{act}", json=ACTS[act])
    assert answer.status_code == 202, answer.text
    assert answer.json()["success"] is True
    (event,) = outlet.events()
    assert (event["type"], event["user_id"], event["payload"]["actor"]) == (kind, "u1", "support token")
    assert event["id"] == answer.json()["event_id"]
    assert {topic for topic, _ in outlet.sent} == {"badges.control"}
    assert [change[1:3] for change in store.changes] == [(kind, "user u1")]


def test_a_revocation_is_sent_whoever_holds_the_badge() -> None:
    """A grant of it may be on its way: what is not held is 202 as well, and the description says what comes of it."""
    store, outlet = FakeStore(), FakeOutlet()
    support = asking(Role.SUPPORT, store=store, outlet=outlet, catalog=FakeCatalogs(ACTS_ON))
    for act in ("grants", "revocations"):
        body = {"user_id": "u1", "badge_key": "each", "context": "35", "note": "n"}
        assert support.post(f"/api/v1/admin/{act}", json=body).status_code == 202
    assert [event["type"] for event in outlet.events()] == ["grant.added", "grant.revoked"]
    told = support.get("/openapi.json").json()["paths"]["/api/v1/admin/revocations"]["post"]["description"]
    assert "Who does not hold it then loses nothing" in " ".join(told.split())


@pytest.mark.parametrize("act", list(ACTS))
def test_an_act_sent_again_is_the_same_event(act: str) -> None:
    """Under one key an act is the same event to the last byte, with one line in the log; another act is refused."""
    outlet, clock, store = FakeOutlet(), itertools.count(Clock.at, 1_000_000), FakeStore()
    support = asking(Role.SUPPORT, outlet=outlet, store=store, now=lambda: next(clock))
    keyed = {"Idempotency-Key": "k1"}
    for _ in range(2):
        assert support.post(f"/api/v1/admin/{act}", json=ACTS[act], headers=keyed).status_code == 202
    first, again = outlet.sent
    assert first == again
    assert len(store.changes) == 1
    other = {**ACTS[act], "note": "for another reason"}
    assert support.post(f"/api/v1/admin/{act}", json=other, headers=keyed).status_code == 409
    support.post(f"/api/v1/admin/{act}", json=ACTS[act])
    assert outlet.events()[2]["id"] != outlet.events()[0]["id"]


@pytest.mark.parametrize("act", list(ACTS))
def test_acts_that_cannot_be(act: str) -> None:
    """What cannot be is refused, and not sent; while Kafka is away it is 503, and the log says it was not sent."""
    store, outlet, catalogs = FakeStore(), FakeOutlet(), FakeCatalogs(ACTS_ON)
    support = asking(Role.SUPPORT, store=store, outlet=outlet, catalog=catalogs)
    address, body = f"/api/v1/admin/{act}", ACTS[act]
    badge = {"badges": ["nope"]} if act == "recompute" else {"badge_key": "nope"}
    assert refusal(support.post(address, json={**body, **badge}))[0] == 404
    assert refusal(support.post(address, json={**body, "user_id": ""})) == (422, ["/user_id"])
    assert refusal(support.post(address, json={**body, "user_id": "nobody"})) == (404, ["/user_id"])
    assert refusal(support.post(address, json={**body, "x": 1})) == (422, ["/x"])
    assert refusal(support.post(address, json={**body, "note": "n" * 2_001})) == (422, ["/note"])
    assert support.post(address, content=b"<a/>", headers={"Content-Type": "text/xml"}).status_code == 415
    if act == "recompute":
        assert refusal(support.post(address, json={**body, "badges": ["first", "sketch"]})) == (422, ["/badges/1"])
    else:
        assert refusal(support.post(address, json={**body, "context": "35"})) == (422, ["/context"])
        assert refusal(support.post(address, json={**body, "badge_key": "each"})) == (422, ["/context"])
        assert refusal(support.post(address, json={**body, "note": " \t "})) == (422, ["/note"])
        both = {**body, "note": " ", "user_id": "nobody"}
        assert refusal(support.post(address, json=both)) == (422, ["/note", "/user_id"])
        catalogs.apply({**ACTS_ON, "badges": ACTS_ON["badges"][1:]})
        assert refusal(support.post(address, json=body)) == (404, ["/badge_key"]), "the catalog left it out"
        catalogs.apply(ACTS_ON)
    if act == "grants":
        for badge_key in ("sketch", "over"):
            assert refusal(support.post(address, json={**body, "badge_key": badge_key})) == (422, ["/badge_key"])
        for at in ("2026-03-01T12:00:01Z", "soon"):
            assert refusal(support.post(address, json={**body, "awarded_at": at})) == (422, ["/awarded_at"])
    assert (outlet.sent, store.changes) == ([], [])
    outlet.broken = TransientError("Kafka is away.")
    assert refusal(support.post(address, json=body))[0] == 503
    ((_, asked, *_), (_, unsent, *_)) = store.changes
    assert unsent == f"{asked}.unsent"


@pytest.mark.parametrize("act", list(ACTS))
def test_an_act_sent_after_all_is_the_last_word(act: str) -> None:
    """An act that Kafka did not take, sent again under its key: the log says that it was sent after all, once."""
    store, outlet = FakeStore(), FakeOutlet()
    support = asking(Role.SUPPORT, store=store, outlet=outlet)
    said = []
    for broken in (TransientError("Kafka is away."), None, None):
        outlet.broken = broken
        support.post(f"/api/v1/admin/{act}", json=ACTS[act], headers={"Idempotency-Key": "k1"})
        said.append([change[1].partition(".")[2].partition(".")[2] for change in store.changes])
    assert said == [["", "unsent"], ["", "unsent", "sent"], ["", "unsent", "sent"]]
    assert store.changes[2][2:] == store.changes[0][2:], "of whom, what and why"


def test_everybody_is_looked_at_by_a_job() -> None:
    """Without a user, badges or a trigger make a job over everybody; one of the three must be named."""
    store, outlet = FakeStore(), FakeOutlet()
    support = asking(Role.SUPPORT, store=store, outlet=outlet)
    for body in ({"badges": ["First"]}, {"trigger": "simple_event"}):
        answer = support.post("/api/v1/admin/recompute", json=body)
        assert (answer.status_code, answer.json()["job_id"]) == (202, 41)
    assert [change[1:3] for change in store.changes] == [("recompute.started", "job 41")] * 2
    assert outlet.sent == []
    assert refusal(support.post("/api/v1/admin/recompute", json={})) == (422, [""])
    both = {"user_id": "u1", "trigger": "simple_event"}
    assert refusal(support.post("/api/v1/admin/recompute", json=both)) == (422, ["/trigger"])
    unknown = support.post("/api/v1/admin/recompute", json={"trigger": "no.such"})
    assert (refusal(unknown), unknown.json()["error"]["code"]) == ((404, ["/trigger"]), "not_found")
    assert refusal(support.post("/api/v1/admin/recompute", json={"badges": ["sketch"]})) == (422, ["/badges/0"])


def test_a_log_row_may_be_of_any_badge() -> None:
    """A row of a badge that no catalog knows is shown by its key."""
    row = replace(logged(1), badge_key="unheard_of")
    (one,) = asking(awards=FakeAwards([row])).get("/api/v1/awards").json()
    assert (one["name"], one["badge_id"]) == ("unheard_of", None)
