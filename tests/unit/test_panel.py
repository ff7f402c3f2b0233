"""The panel's pages on a desk in memory: who may see them, that text stays text, what an empty one says."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from html import unescape
from html.parser import HTMLParser
from typing import Any

import pytest

from tests.rig.log_lines import log_lines
from tests.unit.desk import HOSTILE, FakeDesk, FakeReads, panel
from tests.unit.serving import NOON, TOKENS, FakeStore, client
from worker.admin import problems
from worker.admin.panel.entrance import inside
from worker.admin.panel.pages import ROUTERS
from worker.admin.roles import Role
from worker.admin.routes import Guarded
from worker.errors import TransientError
from worker.store.holders import Share
from worker.store.panel import BadgeCount, UserRow

PAGES = {
    "/": Role.READER,
    "/catalog": Role.READER,
    "/catalog?q=nice&family=misc&trigger=question.scored&status=active&sort=holders": Role.READER,
    "/catalog/versions": Role.READER,
    "/catalog/versions/1..2": Role.READER,
    "/badges/nice_question": Role.READER,
    "/badges/commentator_50": Role.READER,
    "/badges/nice_question/versions": Role.READER,
    "/catalog/new": Role.AUTHOR,
    "/catalog/new?from=window": Role.AUTHOR,
    "/badges/nice_question/edit": Role.AUTHOR,
    "/catalog/sections/ladders": Role.READER,
    "/catalog/sections/milestones": Role.READER,
    "/catalog/sections/event-types": Role.READER,
    "/catalog/sections/condition-types": Role.READER,
    "/catalog/sections/ladders/new": Role.AUTHOR,
    "/catalog/sections/tenures/new": Role.AUTHOR,
    "/catalog/sections/milestones/new": Role.AUTHOR,
    "/catalog/sections/condition-types/new": Role.AUTHOR,
    "/catalog/sections/ladders/commentator/edit": Role.AUTHOR,
    "/catalog/sections/event-types/question.scored/edit": Role.AUTHOR,
    "/catalog/translations": Role.READER,
    "/catalog/translations?lang=fr&missing=1": Role.READER,
    "/catalog/coverage": Role.READER,
    "/catalog/coverage?type=comment.posted": Role.READER,
    "/awards/holders": Role.READER,
    "/awards/holders/nice_question": Role.READER,
    "/awards/quarantine": Role.READER,
    "/awards/quarantine?badge=nice_question": Role.READER,
    "/jobs": Role.READER,
    "/jobs?kind=backfill&state=done": Role.READER,
    "/jobs/new": Role.SUPPORT,
    "/users/u1/grant": Role.SUPPORT,
    "/users/u1/erase": Role.ADMIN,
    "/users/u1/revoke?badge=nice_question&context=35": Role.SUPPORT,
    "/settings": Role.READER,
    "/settings/connections": Role.READER,
    "/settings/audit": Role.SUPPORT,
    "/settings/tokens": Role.ADMIN,
    "/diagnostics/dry-run": Role.SUPPORT,
    "/diagnostics/simulator": Role.SUPPORT,
    "/diagnostics": Role.READER,
    "/diagnostics/milestone": Role.READER,
    "/diagnostics/milestone?badge=nice_question&lang=de&kind=webm&user=u1": Role.READER,
    "/users": Role.READER,
    "/users?q=u": Role.READER,
    "/users/u1": Role.READER,
    "/users/u1/history": Role.READER,
    "/users/u1/why/nice_question": Role.SUPPORT,
    "/users/u1/why/nice_question?at=2026-03-01T12:00:00Z&nearest=1": Role.SUPPORT,
    "/awards": Role.READER,
    "/awards?badge=nice_question&origin=live": Role.READER,
    "/dead-letters": Role.READER,
    "/dead-letters?reason=not_json&since=24+h": Role.READER,
    "/dead-letters/badges.events/3/88": Role.SUPPORT,
}
FRAGMENTS = ("/_/health", "/_/catalog?q=nice", "/_/awards", "/_/users/u1", "/_/settings/connections")


class Found(HTMLParser):
    """What a page consists of: tags with their attributes, ids, text outside of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def check_markup(text: str) -> None:
    """No script but the panel's own files, no style and no handler in an attribute, ids once, labels for fields."""
    found = Found(text)
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids)), ids
    labelled = {attributes.get("for") for tag, attributes in found.tags if tag == "label"}
    for tag, attributes in found.tags:
        assert not [name for name in attributes if name == "style" or name.startswith(("on", "hx-on"))], (
            tag,
            attributes,
        )
        if tag == "script" and attributes.get("type") != "application/json":
            assert (attributes.get("src") or "").startswith("/panel/static/")
        if tag == "form" and (attributes.get("method") or "get").lower() == "post":
            assert (attributes.get("action") or "").startswith("/panel/")
        named = attributes.get("id") in labelled or "aria-label" in attributes or "aria-labelledby" in attributes
        if tag in ("select", "textarea") or (tag == "input" and attributes.get("type") in ("text", "search")):
            assert named, (tag, attributes)
        if tag == "img":
            assert "alt" in attributes


@pytest.mark.parametrize(("path", "role"), PAGES.items())
def test_pages_are_whole(path: str, role: Role) -> None:
    """Each page is served to its least role and above, in one HTML whose parts follow the strict policy."""
    got = client(panel(), role).get(f"/panel{path}")
    assert got.status_code == 200, got.text
    check_markup(got.text)
    assert "script-src 'self'" in got.headers["content-security-policy"]
    assert "unsafe" not in got.headers["content-security-policy"]
    assert got.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", PAGES)
def test_text_stays_text(path: str) -> None:
    """Scripts in labels, notes, ids, contexts and payloads are shown as they are written, on every page."""
    desk = FakeDesk(text=HOSTILE, reads=FakeReads(text=HOSTILE))
    got = client(panel(desk), Role.ADMIN).get(f"/panel{path}")
    assert got.status_code == 200
    assert "<script>alert" not in got.text
    assert "<img src=x" not in got.text
    check_markup(got.text)


@pytest.mark.parametrize("path", [path for path in PAGES if "88" not in path])
def test_empty_pages_say_what_to_do(path: str) -> None:
    """Without any row a page is still a page; lists say why they are empty."""
    got = client(panel(FakeDesk(reads=FakeReads(empty=True))), Role.ADMIN).get(f"/panel{path}")
    assert got.status_code == 200
    check_markup(got.text)


def test_no_catalog() -> None:
    """Before the first catalog the pages say that there is none."""
    user = client(panel(FakeDesk(none=True, reads=FakeReads(empty=True))), Role.ADMIN)
    assert "No badges yet" in user.get("/panel/catalog").text
    home = user.get("/panel/").text
    assert "No catalog rules yet" in home
    assert "Start one: badges worker" in home
    assert user.get("/panel/badges/nice_question").status_code == 404


def test_home_tells_what_needs_attention() -> None:
    """The worst comes first and names the state: lag that stands, dead letters, what is held, a silent trigger."""
    home = client(panel(), Role.READER).get("/panel/").text
    state = home[home.index('id="state"') :]
    said = (
        "1,204 records wait to be read",
        "3 dead letters",
        "212 held back",
        "5 messages wait",
        "no comment.posted for",
    )
    assert [text for text in said if text not in state] == []
    places = [state.index(text, state.index("<table")) for text in said]
    assert places == sorted(places)
    assert state.index(said[0]) < state.index("cards")
    assert '"band":[1,2]' in state
    assert "Silent triggers" in state


@pytest.mark.parametrize("path", FRAGMENTS)
def test_fragments(path: str) -> None:
    """A part of a page is served to an open page; who opens its address is led to the page."""
    user = client(panel(), Role.READER)
    got = user.get(f"/panel{path}", headers={"HX-Request": "true"})
    assert got.status_code == 200
    assert "<html" not in got.text
    check_markup(got.text)
    assert user.get(f"/panel{path}").status_code == 303


def test_every_page_declares_its_role() -> None:
    """No route of the panel is open to anybody but the way in and static files; what changes something is no GET."""
    for router in ROUTERS:
        for route in router.routes:
            assert isinstance(route, Guarded)
            if route.admission.role is None:
                assert route.path in ("/panel", "/panel/login", "/panel/static/{path:path}", "/panel/oidc")


@pytest.mark.parametrize(("path", "role"), PAGES.items())
def test_who_may_not(path: str, role: Role) -> None:
    """Who is not known is led to the log-in and back; who may not see a page is told the role it needs."""
    stranger = client(panel()).get(f"/panel{path}")
    assert stranger.status_code == 303
    assert stranger.headers["location"].startswith("/panel/login?next=/panel/")
    if role is not Role.READER:
        got = client(panel(), Role.READER).get(f"/panel{path}")
        assert got.status_code == 403
        assert f"needs the role {role}" in got.text
        check_markup(got.text)


def test_buttons_follow_the_role() -> None:
    """Readers see no button that they may not press, and read why; a catalog managed by a file has none either."""
    reader = client(panel(), Role.READER).get("/panel/catalog").text
    assert "New badge</a>" not in reader
    assert "New badges need the role author; this session has reader." in reader
    assert "New badge</a>" in client(panel(), Role.AUTHOR).get("/panel/catalog").text
    managed = client(panel(FakeDesk(managed_by_file=True)), Role.ADMIN).get("/panel/catalog").text
    assert "New badge</a>" not in managed
    assert "managed by a file, which <code>BADGES_CATALOG</code> of the workers names:" in managed
    named = client(panel(FakeDesk(managed_by_file=True, catalog_file="/etc/<b>/catalog.yaml")), Role.READER)
    for path in ("/catalog", "/catalog/sections/ladders", "/catalog/translations"):
        assert "by a file, <code>/etc/&lt;b&gt;/catalog.yaml</code>:" in named.get(f"/panel{path}").text


def signed_in(role: Role = Role.ADMIN) -> Any:
    """A browser that has logged in with the token of a role."""
    user = client(panel())
    page = user.post("/panel/login", data={"token": TOKENS[role], "next": "/panel/catalog"})
    assert page.status_code == 303
    assert page.headers["location"] == "/panel/catalog"
    cookie = page.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    return user


def test_log_in_and_out() -> None:
    """A token begins a session that pages know; leaving takes the form's token, and ends it."""
    user = signed_in(Role.SUPPORT)
    home = user.get("/panel/")
    assert "support token, support" in home.text
    assert user.post("/panel/logout").status_code == 403
    token = re.search(r'name="csrf_token" value="([^"]+)"', home.text)
    assert token is not None
    assert user.post("/panel/logout", data={"csrf_token": token[1]}).status_code == 303
    assert user.get("/panel/").status_code == 303


def test_a_wrong_token_is_told() -> None:
    """A token that is not known gives the form again with a sentence; one from another site is refused."""
    user = client(panel())
    got = user.post("/panel/login", data={"token": "nobody's"})
    assert got.status_code == 401
    assert "This token is not known" in got.text
    assert "<title>Error: " in got.text
    other = user.post("/panel/login", data={"token": TOKENS[Role.ADMIN]}, headers={"Origin": "http://evil.example"})
    assert other.status_code == 403


@pytest.mark.parametrize(
    "address",
    ["https://evil.example/panel/", "//evil.example/panel/", "/panel/../x\\", "javascript:alert(1)", "/api/v1/x", ""],
)
def test_log_in_leads_inside(address: str) -> None:
    """After the log-in a person goes on inside the panel, whatever the link said."""
    assert inside(address) == "/panel/"


def test_static_files() -> None:
    """Files of the panel are kept by browsers; nothing else of the disk is served."""
    user = client(panel())
    page = user.get("/panel/login").text
    for address in re.findall(r'(?:src|href)="(/panel/static/[^"]+)"', page):
        got = user.get(address)
        assert got.status_code == 200
        assert "immutable" in got.headers["cache-control"]
    for path in ("../frame.py", "%2e%2e/frame.py", "vendor/htmx.LICENSE", "nothing.js"):
        assert user.get(f"/panel/static/{path}").status_code in (404, 303)


def test_unknown_names_are_pages() -> None:
    """What is not there is a page with a way on, with status 404."""
    user = client(panel(), Role.ADMIN)
    for path in ("/badges/nope", "/users/nobody", "/users/nobody/why/asks", "/catalog/versions/1..9", "/nope"):
        got = user.get(f"/panel{path}")
        assert got.status_code == 404, path
        assert "<main" in got.text


def test_a_service_away_is_told() -> None:
    """Where the database is away the page says so, with 503; an open page gets a note in its place."""

    class Away(FakeReads):
        async def panel_count_letters(self, since_us: int) -> int:
            raise TransientError("the database does not answer")

    user = client(panel(FakeDesk(reads=Away())), Role.READER)
    got = user.get("/panel/")
    assert got.status_code == 503
    assert "the database does not answer" in got.text
    part = user.get("/panel/_/health", headers={"HX-Request": "true"})
    assert part.headers["HX-Retarget"] == "#notice"


def test_refusals_name_their_request() -> None:
    """A refusal shows the id that stands in its header and in the log; what may pass later can be asked for again."""

    class Away(FakeReads):
        async def panel_awards(self, **given: Any) -> Any:
            raise TransientError("the database does not answer")

    reader = client(panel(FakeDesk(reads=Away())), Role.READER)
    with log_lines(problems) as lines:
        page = reader.get("/panel/awards?badge=asks&origin=live")
        given = reader.get("/panel/_/awards", headers={"HX-Request": "true", "X-Request-Id": "proxy-7"})
        assert client(reader.app).get("/panel/awards").status_code == 303
        forged = reader.get("/panel/awards", headers={"X-Request-Id": "<b>"})
        gone = reader.get("/panel/badges/no such")
        refused = reader.get("/panel/settings/tokens")
    assert f"request <code>{page.headers['X-Request-Id']}</code>" in page.text
    assert 'href="/panel/awards?badge=asks&amp;origin=live">Retry</a>' in page.text
    check_markup(page.text)
    assert given.headers["X-Request-Id"] == "proxy-7"
    assert "unavailable, request proxy-7" in given.text
    assert 'data-does="retry"' in given.text
    assert "<b>" not in forged.headers["X-Request-Id"]
    assert "Retry" not in gone.text + refused.text
    told = [(one["request_id"], one["status"], one["route"]) for one in lines if one["event"] == "request_refused"]
    assert told == [
        (page.headers["X-Request-Id"], 503, "/panel/awards"),
        ("proxy-7", 503, "/panel/_/awards"),
        (forged.headers["X-Request-Id"], 503, "/panel/awards"),
        (refused.headers["X-Request-Id"], 403, "/panel/settings/tokens"),
    ]
    assert [one["log_level"] for one in lines][-2:] == ["warning", "info"]


@pytest.mark.parametrize("cursor", ["x", "1~2", "1~2~", "99999999999999999999~1~u", "1~2~a\0b", "~~", "²~1~u"])
def test_forged_cursors_begin_at_the_top(cursor: str) -> None:
    """A cursor that no page made is left out."""
    desk = FakeDesk()
    assert client(panel(desk), Role.READER).get("/panel/awards", params={"before": cursor}).status_code == 200
    assert desk.reads.asked[-1][1]["before"] is None


def test_search_leads_there() -> None:
    """What is typed leads to the badge or event type of this name, else to users."""
    user = client(panel(), Role.READER)
    for text, where in (
        ("nice_question", "/panel/badges/nice_question"),
        ("Asks", "/panel/badges/asks"),
        ("comment.posted", "/panel/catalog?trigger=comment.posted"),
        ("u9", "/panel/users?q=u9"),
    ):
        assert user.get("/panel/find", params={"q": text}).headers["location"] == where


class ManyUsers(FakeReads):
    """As many users as anybody turns to, named by numbers."""

    async def panel_users(self, prefix: str, *, after: str = "", limit: int = 50) -> Sequence[Any]:
        return [UserRow(f"{number:04}", NOON, 3) for number in range(int(after or 0) + 1, int(after or 0) + 1 + limit)]


def turned(page: str, way: str) -> str | None:
    """Where a list's link of a kind leads."""
    found = re.search(rf'href="([^"]+)" rel="{way}"', page)
    return None if found is None else unescape(found[1])


def begins(link: str | None) -> str:
    """Where the page of a link begins."""
    found = re.search(r"after=(\w+)", link or "")
    return "" if found is None else found[1]


def test_lists_are_turned_both_ways() -> None:
    """The page before is the one that was left, with its filters, for twenty pages; farther back is the first."""
    user = client(panel(FakeDesk(reads=ManyUsers())), Role.READER)
    pages = [user.get("/panel/users?q=0&said=x").text]
    for _ in range(22):
        pages.append(user.get(turned(pages[-1], "next") or "").text)
    assert ["First page" in page for page in pages[:4]] == [False, False, True, True]
    assert turned(pages[0], "prev") is None
    assert "/0051" in pages[1]
    page = pages[-1]
    for before in reversed(pages[2:-1]):
        page = user.get(turned(page, "prev") or "").text
        assert begins(turned(page, "next")) == begins(turned(before, "next"))
        assert 'value="0"' in page
    assert turned(page, "prev") is None
    assert turned(user.get(turned(pages[1], "prev") or "").text, "next") == turned(pages[0], "next")


def test_coverage_of_a_type_shows_its_newest_event_and_its_letters() -> None:
    """Dead letters of a type and of its aliases lead to their list; an event of a user is for those who help users."""
    desk = FakeDesk(reads=FakeReads(text="u7"))
    every = client(panel(desk), Role.READER).get("/panel/catalog/coverage").text
    for name, letters in (("comment.posted", "2"), ("comment.added", "1,000+")):
        assert f'<a href="/panel/dead-letters?type={name}">{letters}<' in every
    address = "/panel/catalog/coverage?type=comment.posted"
    assert f'href="{address}"' in every
    assert "&#34;note&#34;: &#34;u7&#34;" in client(panel(desk), Role.SUPPORT).get(address).text
    shown = client(panel(desk), Role.READER).get(address).text
    assert "u7" not in shown
    assert "needs the role support" in shown
    assert client(panel(desk), Role.READER).get("/panel/catalog/coverage?type=none").status_code == 404


@pytest.mark.parametrize(
    ("zone", "reader", "told"),
    [("Asia/Tokyo", "Europe/Berlin", True), ("Asia/Tokyo", "Asia/Tokyo", False), ("No/Where", "Asia/Tokyo", False)],
)
def test_a_users_page_tells_the_hour_where_they_are(zone: str, reader: str, told: bool) -> None:
    """Days count in the user's zone: where its clocks show another time than the reader's, both stand there."""

    class Elsewhere(FakeDesk):
        async def overview(self, user_id: str) -> Mapping[str, Any] | None:
            return {**(await super().overview(user_id) or {}), "zone": zone}

    user = client(panel(Elsewhere()), Role.READER)
    user.cookies.set("tz", reader)
    shown = user.get("/panel/users/u1").text
    assert f"Zone {zone}" in shown
    assert ("it is 2026-03-01 21:00:00 there" in shown, "2026-03-01 21:00:00 in Asia/Tokyo" in shown) == (told, told)


def test_shares_are_told_with_what_they_are_of() -> None:
    """A badge's share stands where its holders do, with the users it is a part of; a spike is marked in the table."""
    user = client(panel(), Role.READER)
    for path in ("/catalog", "/awards/holders", "/awards/holders/nice_question", "/badges/nice_question"):
        assert "8.5 %" in user.get(f"/panel{path}").text, path
    told = user.get("/panel/awards/holders").text
    assert "of the 94 users with an event in the last 30 days" in told
    badge = user.get("/panel/awards/holders/nice_question").text
    assert "8 of the 94 users" in badge
    rows = re.findall(r'<tr role="row"><th role="rowheader".*?</tr>', badge)
    assert ["spike" in row for row in rows] == [False, True, False, True]
    assert told.count('class="peak"') == 2


def test_days_of_a_badge_lie_over_the_usual_band() -> None:
    """The chart of a badge and its table have, for each day, between which figures it is usual."""
    got = client(panel(), Role.READER).get("/panel/awards/holders/nice_question").text
    data = json.loads(got.partition('id="chart-data">')[2].partition("</script>")[0])
    most, least, awards = (one["y"] for one in data["series"][:3])
    assert data["band"] == [1, 2]
    assert awards == [0, 1, 5, 2]
    assert all(0 <= low <= high for low, high in zip(least, most, strict=True))
    assert max(most) > 3
    assert "usual, most</th>" in got
    check_markup(got)


@pytest.mark.parametrize("order", [1, -1])
def test_shares_of_a_ladder_stand_in_one_note(order: int) -> None:
    """The shares of those levels that are counted stand together; one that is not counted leaves nothing half-open."""

    class Counting(FakeDesk):
        async def counts(self) -> Mapping[str, Any] | None:
            shares = (None, Share(8, 94, 30, NOON))[::order]
            return {f"commentator_{n}": BadgeCount(1, (0,), None, one) for n, one in zip((10, 50), shares, strict=True)}

    told = client(panel(Counting()), Role.READER).get("/panel/catalog").text
    (cell,) = re.findall(r'data-label="holders"[^>]*>([^\n]*8\.5 %.*?)</td>', told)
    assert cell == '1 · 1<br><span class="muted small">8.5 % of active</span>'


def test_open_on_this_machine() -> None:
    """Where no token was ever made, a browser of this machine is in without one."""
    got = client(panel(store=FakeStore(tokens=[]))).get("/panel/")
    assert got.status_code == 200
    assert "local, admin" in got.text
