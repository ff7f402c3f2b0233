"""Links of the panel: whatever it links to is there, and what a list names is a link to it."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any, Final
from urllib.parse import unquote, urldefrag

import pytest

from tests.panel_routes import filled, panel_routes
from tests.unit.desk import FakeDesk, FakeReads, panel
from tests.unit.serving import client
from tests.unit.test_panel_roles import OPEN, WORLD, served
from worker.admin.panel.addresses import user_address
from worker.admin.roles import Role

#: A proposal names badges that are not there yet.
NEW: Final = frozenset({"New", "New new"})
#: Columns whose cells name something that has a page, and what a cell may say where there is nothing to name.
NAMING: Final = frozenset({"badge", "badges", "user", "trigger", "triggers", "event", "event type", "for", "job"})
NOTHING: Final = frozenset({"", "–", "none", "by hand", "every user"})
#: The fakes' log and jobs name badges that no version has: their pages say so.
GONE: Final = ("/panel/badges/u1", "/panel/badges/Nice%20question")


class Page(HTMLParser):
    """The links of a page, and of its lists each cell: column, text, whether it has a link."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.cells: list[tuple[str, str, bool]] = []
        self._columns: list[str] = []
        self._place = 0
        self._in_head = False
        self._words: list[str] | None = None
        self._linked = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        address = dict(attrs).get("href") or ""
        if tag == "a":
            self._linked = True
            if address.startswith("/panel/"):
                self.links.add(urldefrag(address).url)
        elif tag == "thead":
            self._columns, self._in_head = [], True
        elif tag == "tr":
            self._place = 0
        elif tag in ("td", "th"):
            self._words, self._linked = [], False

    def handle_data(self, data: str) -> None:
        if self._words is not None:
            self._words.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "thead":
            self._in_head = False
        if tag not in ("td", "th") or self._words is None:
            return
        text = " ".join("".join(self._words).split())
        if self._in_head:
            self._columns.append(text)
        else:
            self.cells.append((self._columns[self._place], text, self._linked))
        self._place, self._words = self._place + 1, None


def pages() -> dict[str, Page]:
    """Every page that an admin can open, by its address."""
    admin: Any = client(served(FakeDesk()), Role.ADMIN)
    found = {}
    for name, _ in panel_routes():
        method, _, path = name.partition(" ")
        if method == "GET" and name not in OPEN:
            address = f"/panel{filled(path, WORLD)}"
            got = admin.get(address)
            if got.headers.get("content-type", "").startswith("text/html"):
                found[address] = Page(got.text)
    return found


def test_every_link_leads_somewhere() -> None:
    """Whatever any page links to inside the panel is there."""
    admin: Any = client(served(FakeDesk()), Role.ADMIN)
    known = {link: address for address, page in pages().items() for link in page.links if link not in GONE}
    assert len(known) > 60
    broken = [(address, link) for link, address in known.items() if admin.get(link).status_code not in (200, 303)]
    assert broken == []


def test_lists_link_to_what_they_name() -> None:
    """Each badge, user, event type and job that a list names is a link to its page."""
    named = [(address, cell) for address, page in pages().items() for cell in page.cells if cell[0] in NAMING]
    assert len(named) > 45
    assert [
        (address, cell)
        for address, cell in named
        if not cell[2] and cell[1] not in NOTHING | NEW and not cell[1].isdigit()
    ] == []


#: Ids that are told apart from addresses by nothing but care.
IDS: Final = (
    "u1", "a/history", "a/grant", "a/why/asks", "/", "//a//", "a/", "..", ".", "../badges/asks", "%2e%2e", "~", "a~b",
    "a?b=c", "a#b", "a b", " ", "a+b", "a&user=b", "a%2Fb", "100%", "a\\b", "a;b", "a\nb", "a:b@c", "Jürgen 🎈", "…",
    "why", "history.csv", '"><script>', "{{ 7 }}",
)  # fmt: skip


class Seen(FakeDesk):
    """A desk that notes whom it was asked about."""

    def __init__(self, user_id: str) -> None:
        super().__init__(reads=SeenReads(user_id))

    async def overview(self, user_id: str) -> Any:
        self.reads.seen.add(user_id)
        return await super().overview(user_id)

    async def why(self, user_id: str, key: str, **given: Any) -> Any:
        self.reads.seen.add(user_id)
        return await super().why(user_id, key, **given)

    async def export(self, user_id: str, **given: Any) -> Any:
        self.reads.seen.add(user_id)
        yield "{}"


class SeenReads(FakeReads):
    """Tables that note the same."""

    def __init__(self, text: str) -> None:
        super().__init__(text=text)
        self.seen: set[str] = set()

    async def panel_user_log(self, user_id: str, **given: Any) -> Any:
        self.seen.add(user_id)
        return await super().panel_user_log(user_id, **given)


def as_browsers_send(address: str) -> str:
    """An address with the steps of its path taken that a browser takes before it asks."""
    path, mark, query = address.partition("?")
    steps: list[str] = []
    for step in path.replace("\\", "/").split("/"):
        if unquote(step) == "..":
            steps = steps[:-1]
        elif unquote(step) != ".":
            steps.append(step)
    return "/".join(steps) + mark + query


@pytest.mark.parametrize("user_id", IDS)
def test_every_id_has_its_pages(user_id: str) -> None:
    """Whatever a user is called, all links and forms that name the user lead to pages of that user and nobody else."""
    desk = Seen(user_id)
    admin: Any = client(panel(desk), Role.ADMIN)
    looked_at: set[str] = set()
    left = {"/panel/users", "/panel/awards", "/panel/dead-letters"}
    while left:
        address = left.pop()
        looked_at.add(address)
        got = admin.get(as_browsers_send(address))
        assert got.status_code == 200, (address, got.status_code)
        if got.headers["content-type"].startswith("text/html"):
            found = {one for one in Page(got.text).links if one.startswith("/panel/users/")}
            left |= {one for one in found if "u2" not in one} - looked_at
    kinds = {address.partition("?")[0].rpartition("/")[2] for address in looked_at}
    assert {"history", "history.csv", "export.json", "grant", "erase", "nice_question", "revoke"} <= kinds
    assert desk.reads.seen == {user_id}
    here = user_address(user_id)
    went = admin.post(f"/panel{user_address(user_id, 'grant')}", data={"badge": "asks", "note": "x"})
    assert went.headers["location"].startswith(f"/panel{here}")
    assert [json.loads(one.value)["user_id"] for one in desk.sent] == [user_id]
    why = admin.get(f"/panel{user_address(user_id, 'why', 'asks')}").text
    assert ('name="user"' in why) == ("?user=" in here)
