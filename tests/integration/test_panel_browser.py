"""The panel in a real browser on real services: what people do in it, and that everybody can use every page."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.integration import panel_pages, panel_stories
from tests.integration.browsing import event, find_browser, opened, serious, shoot, wait_for, write
from tests.integration.panel_served import Served, served
from tests.rig.kafka import KafkaService
from tests.rig.postgres import PostgresService

#: An award is to be seen so soon after its event, milliseconds.
SOON_MS = 2_000
#: Awards of some 40 days, for the chart of Home.
PAST = """
INSERT INTO badge_awards_log (user_id, badge_key, award_id, awarded_at, source, origin, sequence, catalog_version,
                              logged_at)
SELECT 'p' || n, 'nice_answer', gen_random_uuid(), at, 'auto', 'live', 1, 1, at
FROM generate_series(0, 500) AS n,
     LATERAL (SELECT now() - interval '25 h' - n * (n % 5) * interval '20 min' AS at) AS days"""
#: A badge that is given once a day, and 140 times today.
SPIKE = """
INSERT INTO badge_awards_log (user_id, badge_key, award_id, awarded_at, source, origin, sequence, catalog_version,
                              logged_at)
SELECT 's' || n, 'commentator_5', gen_random_uuid(), at, 'auto', 'live', 1, 1, at
FROM generate_series(1, 160) AS n,
     LATERAL (SELECT now() - CASE WHEN n > 20 THEN '0' ELSE n * interval '1 day' END AS at) AS days"""
#: A trigger that came every day and then no more, as the scheduler counts arrivals.
SILENT = """
WITH counted AS (INSERT INTO log_readers (name, rule, upto, after) VALUES ('arrivals', '', now(), NULL))
INSERT INTO event_days (type, day, events, last_at)
SELECT 'edit.approved', current_date - n, 120, now() - n * interval '1 day' FROM generate_series(9, 36) AS n"""


@pytest.fixture(scope="module")
def panel(kafka: KafkaService, postgres: PostgresService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Worker and panel with two users, some awards and a dead letter."""
    find_browser()
    stamp = uuid.uuid4().hex[:8]
    # Names that a line of a phone has no room for, whatever fonts a machine has.
    place = "of_the_whole_community_in_every_language"
    names = {name: f"panel.{name}.{place}.{stamp}" for name in ("events", "awards", "dead", "control")}
    folder = tmp_path_factory.mktemp("panel")
    with pytest.MonkeyPatch.context() as patch, postgres.database() as dsn:
        patch.setattr("worker.app.lookout.TREND_SECONDS", 1.0)
        yield from _with_data(kafka, dsn, folder, names)


def _with_data(kafka: KafkaService, dsn: str, folder: Path, names: dict[str, str]) -> Iterator[Served]:
    with served(kafka, dsn, folder, names, before=(PAST, SPIKE, SILENT)) as running:
        running.produce(
            *(event("u1", "comment.posted") for _ in range(3)),
            event("u1", "answer.scored", post_id=7, score=12),
            event("u2", "answer.scored", post_id=8, score=4),
            {**event("u2", "comment.posted"), "type": "comment.pasted"},
            event("u4", "edit.approved"),
            event("u5", "edit.approved"),
        )
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    from playwright.sync_api import sync_playwright

    path = find_browser()
    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Any, panel: Served) -> Iterator[Any]:
    """A page of a reader in Berlin; what the console complains of fails the test."""
    opened_page, complaints = opened(browser, timezone_id="Europe/Berlin")
    yield opened_page
    opened_page.context.close()
    assert serious(complaints) == []


def test_the_whole_story(panel: Served, page: Any) -> None:
    """Support and authors get by with the panel: from a faulty flow to its award, a why, a release, a show, a file."""
    wait_for(panel, page, "SELECT count(*) >= 3 FROM user_badges", "the awards")
    write_a_badge(panel, page)
    see_its_award(panel, page)
    ask_why_not(panel, page)
    release_what_is_held(panel, page)
    preview_a_milestone(panel, page)
    take_a_file(panel, page)


def write_a_badge(panel: Served, page: Any) -> None:
    """A faulty flow is marked at its place, mended, tried on all users, and applied."""
    page.goto(f"{panel.address}/catalog")
    page.click("text=New badge")
    page.fill("#f-label", "Helpful")
    write(page, "f-flow", '{\n  "event": "answer.scored",\n  "criteria": {"scroe": {"$gte": 4}}\n}')
    page.wait_for_selector("#lint .marks")
    assert 'Write "score"' in page.inner_text("#lint")
    expect(page.locator("#f-flow-editor .ace_gutter-cell.ace_error")).to_have_text("3")
    shoot(page, "flow-with-a-fault")
    page.click("#lint button[data-does=go-to]")
    assert page.evaluate("document.getElementById('f-flow-editor').env.editor.getSelectedText()") == '"scroe"'
    page.keyboard.type('"score"')
    expect(page.locator("#lint")).to_contain_text("at least 4")
    page.click("#edit button.main")
    page.wait_for_selector("#population button.main")
    assert "2 awards" in page.inner_text("#population button.main")
    shoot(page, "preview-of-a-badge")
    page.fill("#f-note", "for helpers")
    page.click("#population button.main")
    page.wait_for_url("**/catalog?said=*")
    assert "Version 2 rules: 1 added." in page.inner_text(".note.ok")


def see_its_award(panel: Served, page: Any) -> None:
    """An event that the API took is an award in the open feed within two seconds, without a reload."""
    page.click("nav >> text=Awards")
    expect(page.locator("#feed")).to_contain_text("Helpful", timeout=20_000)  # what was earned before it ruled
    page.evaluate("window.notReloaded = true")
    body = event("u3", "answer.scored", post_id=9, score=5)
    sent = time.monotonic()
    assert page.request.post(panel.address.replace("/panel", "/api/v1/events"), data=body).ok
    expect(page.locator("#feed tbody tr").first).to_contain_text("u3", timeout=SOON_MS)
    assert time.monotonic() - sent < SOON_MS / 1000
    expect(page.locator("#feed tbody tr").first).to_contain_text("Helpful")
    assert page.evaluate("window.notReloaded")
    assert page.get_attribute("#feed", "data-live") == "yes"
    shoot(page, "feed")


def ask_why_not(panel: Served, page: Any) -> None:
    """Another user's "why not" says what is missing."""
    page.click("#feed >> text=u2")
    page.click("text=Why not Nice answer")
    page.wait_for_selector("#why .tree")
    assert "at least 10 needed" in page.inner_text("#why")
    shoot(page, "why-not")


def release_what_is_held(panel: Served, page: Any) -> None:
    """What a breaker held back is released with a note, and is the user's then; who did it is written down."""
    held = "SELECT user_id FROM user_badges WHERE badge_key = 'editor' ORDER BY user_id"
    assert len(panel.rows(held)) == 1
    page.goto(f"{panel.address}/")
    page.wait_for_selector("#state .chart canvas")
    page.click("#state >> text=Review")
    shoot(page, "quarantine-with-an-award")
    page.fill("#f-note", "looked at")
    page.click("text=Release awards")
    expect(page.locator("tbody")).to_contain_text("u5")
    shoot(page, "quarantine-release")
    page.click("text=Release 1 award")
    page.wait_for_url("**/awards/quarantine?*said=*")
    assert "1 award released." in page.inner_text(".note.ok")
    assert [row["user_id"] for row in panel.rows(held)] == ["u4", "u5"]
    changes = "SELECT subject, note FROM audit_log WHERE action = 'quarantine.released'"
    assert [tuple(row) for row in panel.rows(changes)] == [("badge editor", "looked at")]


def preview_a_milestone(panel: Served, page: Any) -> None:
    """Confetti falls over the badge in German, and rests where asked for; no award, no message comes of it."""
    count = "SELECT (SELECT count(*) FROM badge_awards_log) + (SELECT count(*) FROM outbox) AS n"
    before = panel.rows(count)
    page.goto(f"{panel.address}/diagnostics/milestone")
    page.select_option("#f-badge", "nice_answer")
    page.fill("#f-user", "u2")
    page.select_option("#f-lang", "de")
    page.select_option("#f-kind", "confetti")
    page.click("button:text-is('Show')")
    page.wait_for_selector(".stage[data-shown=confetti] canvas")
    assert "Gute Antwort" in page.inner_text(".stage")
    shoot(page, "milestone-with-confetti")
    page.emulate_media(reduced_motion="reduce")
    page.reload()
    page.wait_for_selector(".stage [data-still]:not([hidden])")
    assert page.query_selector(".stage canvas") is None
    assert panel.rows(count) == before


def take_a_file(panel: Served, page: Any) -> None:
    """The history goes out as a file."""
    page.goto(f"{panel.address}/users/u1/history")
    with page.expect_download() as download:
        page.click("text=CSV")
    text = Path(download.value.path()).read_text()
    assert text.startswith('"sequence","badge_key"')
    assert "nice_answer" in text


@pytest.mark.parametrize("story", panel_stories.STORIES, ids=lambda story: story.__name__)
def test_a_story(panel: Served, page: Any, story: Callable[[Served, Any], None]) -> None:
    """What people do beside badges and awards works from the first page to what it changed in the database."""
    story(panel, page)


def test_the_editor_of_flows(panel: Served, page: Any) -> None:
    """It completes event types, the event's fields and operators, marks faults at their lines, and lets keys out."""
    page.goto(f"{panel.address}/catalog/new?from=score")
    page.fill("#f-label", "Nine")
    page.wait_for_selector("#f-flow-editor .ace_text-input", state="attached")
    assert page.is_hidden("#f-flow")
    write(page, "f-flow", '{\n  "event": "answer.scored",\n  "criteria": {\n    \n  }\n}')
    page.evaluate("document.getElementById('f-flow-editor').env.editor.gotoLine(4, 4)")
    page.focus("#f-flow-editor .ace_text-input")
    page.keyboard.type("sco")
    offered = page.locator(".ace_autocomplete")
    expect(offered).to_contain_text("score")
    expect(offered).not_to_contain_text("comment.posted")
    shoot(page, "editor-completes")
    page.keyboard.press("Enter")
    page.keyboard.type("{")
    page.keyboard.press("Control+Space")
    expect(page.locator(".ace_autocomplete")).to_contain_text("$gte")
    page.keyboard.type("$gte")
    expect(page.locator(".ace_autocomplete .ace_selected")).to_contain_text("$gte")
    page.keyboard.press("Enter")
    page.keyboard.type("9}")
    expect(page.locator("#lint")).to_contain_text("at least 9")
    page.keyboard.type("x")
    page.wait_for_selector("#f-flow-editor .ace_gutter-cell.ace_error")
    assert page.inner_text("#f-flow-editor .ace_gutter-cell.ace_error").strip() == "4"
    page.wait_for_selector("#f-flow-editor .flow-mark.error", state="attached")
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    page.keyboard.press("Tab")
    assert not page.evaluate("document.getElementById('f-flow-editor').contains(document.activeElement)")


def test_a_ladder_is_changed(panel: Served, page: Any) -> None:
    """A ladder's form tells a faulty level at its field; mended, its preview names the new badge."""
    page.goto(f"{panel.address}/catalog/sections/ladders")
    page.click("text=commentator >> nth=0")
    page.wait_for_selector("#edit[data-htmx-powered]")
    page.fill("#f-levels", "2, 5, four")
    expect(page.locator("#lint")).to_contain_text('"four" is no number')
    page.fill("#f-levels", "2, 5, 9")
    expect(page.locator("#lint")).to_contain_text("Commentator III")
    shoot(page, "ladder")
    page.click("#edit button.main")
    page.wait_for_selector("#population button.main")
    assert "commentator_9" in page.inner_text("main")


def test_the_simulator(panel: Served, page: Any) -> None:
    """A user's log is played step by step with a metric set, the clock moved on, and a link plays it again."""
    page.goto(f"{panel.address}/diagnostics/simulator?user=u1")
    page.fill("#f-set", "comments = 4")
    page.check("text=jobs on")
    page.click("text=+1 day")
    page.wait_for_selector("[data-played]")
    page.click("text=From the start")
    assert page.locator("[data-played]:visible").count() == 0
    page.click("button:text-is('Step')")
    assert page.locator("[data-played]:visible").count() == 1
    shoot(page, "simulator-played")
    address = page.get_attribute("#kept", "href")
    page.goto(panel.address.removesuffix("/panel") + address)
    assert page.input_value("#f-set") == "comments = 4"
    page.wait_for_selector("[data-played]")


def test_translations_are_imported(panel: Served, page: Any) -> None:
    """A file is shown as a difference before it rules; a cell written in place rules at once."""
    page.goto(f"{panel.address}/catalog/translations?lang=fr")
    before = panel.rows("SELECT max(version) AS n FROM catalog_versions")[0]["n"]
    page.fill("input[name='nice_answer|label|fr']", "Bonne réponse")
    page.keyboard.press("Tab")
    cell = page.locator("td:has(input[name='nice_answer|label|fr'])")
    expect(cell).to_contain_text("saved")
    expect(cell).not_to_contain_text("missing")
    assert panel.rows("SELECT max(version) AS n FROM catalog_versions")[0]["n"] == before + 1
    assert page.evaluate("document.activeElement.closest('tr').innerText").startswith("nice_answer")
    shoot(page, "translations-saved")
    file = {"name": "t.json", "mimeType": "application/json", "buffer": b'{"nice_answer": {"es": {"label": "Buena"}}}'}
    page.set_input_files("#f-file", file)
    page.click("text=Look at it")
    page.wait_for_url("**/catalog/proposals/*")
    row = page.locator("tr:has-text('nice_answer'):has-text('Buena')")
    expect(row).to_contain_text("missing")
    shoot(page, "translations-imported")


def test_the_feed_goes_on(panel: Served, page: Any) -> None:
    """Where the stream breaks off, the feed is looked at until the stream is back; nothing is lost."""
    streams: list[str] = []

    def cut_off(route: Any) -> None:
        streams.append(route.request.url)
        if len(streams) == 1:
            route.abort("connectionreset")
        else:
            route.continue_()

    page.route("**/awards/stream", cut_off)
    page.goto(f"{panel.address}/awards")
    page.wait_for_selector("#feed[data-live=no]", state="attached")
    panel.produce(event("u6", "answer.scored", post_id=10, score=15))
    expect(page.locator("#feed tbody")).to_contain_text("u6", timeout=10_000)
    page.wait_for_selector("#feed[data-live=yes]", state="attached")
    assert len(streams) == 2
    page.keyboard.press(".")
    assert page.inner_text("[data-pause]") == "Go on"


def test_keys(panel: Served, page: Any) -> None:
    """Pages are reached by keys, and the list of keys can turn them off."""
    page.goto(f"{panel.address}/")
    page.keyboard.press("g")
    page.keyboard.press("c")
    page.wait_for_url("**/catalog")
    page.keyboard.press("?")
    page.wait_for_selector("dialog[open]")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog:not([open])", state="attached")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "find"
    page.keyboard.press("Tab")
    page.goto(f"{panel.address}/login")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("scheme", "width", "world"),
    [("light", 1280, panel_pages.plain_world), ("dark", 390, panel_pages.hostile_world)],
    ids=["light-desk-plain", "dark-phone-hostile"],
)
def test_every_page_is_usable(
    panel: Served, browser: Any, scheme: str, width: int, world: Callable[[Served, Any], dict[str, str]]
) -> None:
    """No page has a serious finding of axe, scrolls sideways, or complains; texts that attack are texts on each."""
    page, complaints = opened(browser, color_scheme=scheme, timezone_id="UTC")
    page.set_viewport_size({"width": width, "height": 900})
    found, wide, shown = [], [], []
    for route, path in panel_pages.addresses(world(panel, page)).items():
        page.goto(f"{panel.address}{path}")
        if page.evaluate("document.documentElement.scrollWidth - innerWidth") > 1:
            wide.append(route)
        shoot(page, f"{named(route)}-{scheme}")
        found += [(route, *one) for one in findings(page, whole=scheme == "light")]
        if world is panel_pages.hostile_world and page.evaluate(HOVERED, panel_pages.MARK):
            shown.append(route)
        assert page.evaluate("window.hacked") is None, route
    page.context.close()
    assert found == []
    assert wide == []
    assert serious(complaints) == []
    assert world is panel_pages.plain_world or [one for one in panel_pages.SHOWN if one not in shown] == []


#: Moves the mouse over everything there is; whether a text is to be read, on the page or in a field.
HOVERED = """(mark) => {
  const all = [...document.querySelectorAll("body *")];
  for (const one of all) one.dispatchEvent(new MouseEvent("mouseover", {bubbles: true}));
  if (all.some((one) => (one.getAttribute("href") || "").trim().startsWith("javascript:"))) window.hacked = "link";
  return [document.body.textContent, ...all.map((one) => one.value || "")].some((text) => `${text}`.includes(mark));
}"""


def named(route: str) -> str:
    """What the picture of a page is called."""
    return re.sub(r"[^a-z0-9.-]+", "-", route.replace("{", "").replace("}", "")).strip("-") or "home"


def findings(page: Any, *, whole: bool) -> list[tuple[str, list[str]]]:
    """What axe finds serious; not `whole`: only of what theme and width change, which are colours and room."""
    from axe_playwright_python.sync_playwright import Axe

    options: dict[str, Any] = {"resultTypes": ["violations"]}
    if not whole:
        options["runOnly"] = ["color-contrast", "link-in-text-block", "scrollable-region-focusable", "target-size"]
    return [
        (one["id"], [node["html"][:160] for node in one["nodes"][:3]])
        for one in Axe().run(page, options=options).response["violations"]
        if one["impact"] in ("serious", "critical")
    ]


def test_hostile_texts_stay_texts(panel: Served, page: Any) -> None:
    """Whatever people and programs write into badges, ids, contexts and payloads, no page acts on it."""
    panel_stories.write_hostile_texts(panel, page)


def test_log_in_and_out(panel: Served, page: Any) -> None:
    """Whoever has a token gets in, and out again; the last test, since it closes the panel."""
    panel_stories.log_in_and_out(panel, page)
