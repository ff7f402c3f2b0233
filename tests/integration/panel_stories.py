"""What people do in the panel beside writing badges and seeing awards, each told on a page that is open."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from tests.integration.browsing import event, shoot, wait_for
from tests.integration.panel_served import Served
from worker.admin.panel.animations import KINDS
from worker.errors import TransientError

#: A job that another worker has begun and does not go on with.
BEGUN = """
INSERT INTO user_jobs (kind, parameters, state, users_done, users_total, events, requested_by, started_at, moved_at,
                       driver, leased_until)
VALUES ('recompute', '{"trigger": "comment.posted"}', 'running', 2, 5, 9000, 'anna', now() - interval '3 s', now(),
        'elsewhere', now() + interval '5 min')
RETURNING id"""

#: Markup, scripts, addresses and templates that a careless page would act on.
HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    '"><svg onload=alert(3)>',
    "' autofocus onfocus=alert(4) x='",
    "javascript:alert(5)",
    "</textarea></script><script>alert(6)</script>",
    "{{ 7 * 7 }}{% raw %}${alert(7)}",
)


def recompute_a_user(panel: Served, page: Any) -> None:
    """An award that was lost is found by a preview, and given back by a job that says when it is done."""
    wait_for(panel, page, "SELECT count(*) > 0 FROM user_badges WHERE badge_key = 'commentator_2'", "the award")
    panel.rows("DELETE FROM user_badges WHERE user_id = 'u1' AND badge_key = 'commentator_2'")
    page.goto(f"{panel.address}/users/u1")
    page.click(".actions >> text=Recompute")
    assert page.input_value("#f-user") == "u1"
    page.click("text=Preview")
    expect(page.locator("#gains button.main")).to_have_text("Start recompute of 1 award")
    shoot(page, "job-preview")
    page.click("#gains button.main")
    page.wait_for_url("**/jobs/*said=*")
    expect(page.locator("#job .tag").first).to_have_text("done")
    back = "SELECT count(*) FROM user_badges WHERE user_id = 'u1' AND badge_key = 'commentator_2'"
    assert panel.rows(back)[0][0] == 1
    shoot(page, "job-done")


def stop_a_job(panel: Served, page: Any) -> None:
    """A job shows how far it is; cancelled it keeps what is done, and goes on from there where a person says so."""
    number = panel.rows(BEGUN)[0]["id"]
    page.goto(f"{panel.address}/jobs?state=running")
    page.click(f"text=#{number} recompute")
    expect(page.locator("#job")).to_contain_text("2 of 5 users, 40.0 % · 3,000 events/s")
    shoot(page, "job-running")
    page.click("text=Cancel")
    assert "what was done stays" in page.inner_text(".note.ok")
    expect(page.locator("#job .tag").first).to_have_text("cancelled")
    assert panel.rows(f"SELECT state FROM user_jobs WHERE id = {number}")[0][0] == "cancelled"
    page.click("text=Go on")
    expect(page.locator("#job .tag").first).to_have_text("done", timeout=10_000)


def hear_of_a_jobs_end(panel: Served, page: Any) -> None:
    """A change of a job's state is told to who does not see it, once; then the job is not looked at any more."""
    number = panel.rows(BEGUN)[0]["id"]
    page.clock.install()
    page.goto(f"{panel.address}/jobs/{number}")
    looked = f"**/_/jobs/{number}"
    with page.expect_response(looked):
        pass
    page.focus("button:text-is('Cancel')")
    with page.expect_response(looked):
        pass
    assert page.evaluate("document.activeElement.textContent") == "Cancel"
    expect(page.locator("#announce")).to_be_empty()
    panel.rows(f"UPDATE user_jobs SET state = 'done', done_at = now() WHERE id = {number} RETURNING 1")
    expect(page.locator("#announce")).to_have_text(f"Job {number}: done")
    assert page.get_attribute("#job", "hx-trigger") is None
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.clock.run_for(5_000)
    assert asked == []


def replay_a_dead_letter(panel: Served, page: Any) -> None:
    """A letter is found by its reason and looked at in its bytes; after the fix it is tried dry, then replayed."""
    wait_for(panel, page, "SELECT count(*) > 0 FROM dead_letters", "the letter")
    page.goto(f"{panel.address}/dead-letters")
    page.click(".card:has-text('unknown_event_type')")
    page.wait_for_url("**/dead-letters?reason=unknown_event_type")
    for kind, there in (("comment.posted", 0), ("comment.pasted", 1)):
        page.fill("#f-type", kind)
        page.click("button:text-is('Filter')")
        expect(page.locator("td[data-label=record]")).to_have_count(there)
    page.click("tbody tr >> nth=0 >> td[data-label=record] a")
    expect(page.locator("main")).to_contain_text("comment.pasted")
    page.click("summary:has-text('In hex')")
    expect(page.locator("[aria-label='The record in hex']")).to_contain_text("000000")
    shoot(page, "dead-letter")
    page.goto(f"{panel.address}/catalog/sections/event-types/comment.posted/edit")
    page.fill("#f-aliases", "comment.pasted")
    apply_what_is_seen(page)
    page.goto(f"{panel.address}/dead-letters?reason=unknown_event_type")
    page.check("tbody input[type=checkbox] >> nth=0")
    page.click("text=Replay selected")
    expect(page.locator(".lead")).to_contain_text("1 of 1 letter would pass now")
    assert panel.rows("SELECT state FROM dead_letters WHERE reason = 'unknown_event_type'")[0][0] == "new"
    shoot(page, "dead-letters-tried-dry")
    page.click("text=Replay 1 letter")
    assert "1 letter passed, 0 stayed." in page.inner_text(".note.ok")
    assert panel.rows("SELECT count(*) FROM events WHERE user_id = 'u2' AND type = 'comment.posted'")[0][0] == 1


def apply_what_is_seen(page: Any) -> None:
    """From a form through its preview into force."""
    page.wait_for_selector("#edit[data-htmx-powered], #edit")
    page.click("#edit button.main")
    page.click("#population button.main")
    page.wait_for_url("**said=*")


def grant_and_revoke(panel: Served, page: Any) -> None:
    """A grant asks for a note at its field; it stands with the award, and the revocation's beside it in the history."""
    page.goto(f"{panel.address}/users/u2")
    page.click(".actions >> text=Grant")
    page.select_option("#f-badge", "commentator_5")
    page.eval_on_selector("#f-note", "field => field.removeAttribute('required')")
    page.click("text=Grant badge")
    expect(page.locator(".note.bad a")).to_have_attribute("href", "#f-note")
    shoot(page, "grant-without-a-note")
    page.fill("#f-note", "by mail of 3 March")
    page.click("text=Grant badge")
    assert "The grant was sent" in page.inner_text(".note.ok")
    held = "SELECT count(*) {} 0 FROM user_badges WHERE user_id = 'u2' AND badge_key = 'commentator_5'"
    wait_for(panel, page, held.format(">"), "the grant")
    page.goto(f"{panel.address}/users/u2")
    row = page.locator("tr:has-text('Commentator II'):has-text('manual')")
    expect(row).to_contain_text("by mail of 3 March")
    shoot(page, "user-with-a-grant")
    row.locator("text=Revoke").click()
    page.fill("#f-note", "it was u3's")
    page.click("text=Revoke badge")
    wait_for(panel, page, held.format("="), "the revocation")
    page.goto(f"{panel.address}/users/u2/history")
    expect(page.locator("tbody")).to_contain_text("it was u3's")
    expect(page.locator("tbody")).to_contain_text("revoked")
    shoot(page, "history-with-a-revocation")


def drop_what_is_held(panel: Served, page: Any) -> None:
    """A drop wants the badge's key typed and a note; the award is never given; who did it is written down."""
    wait_for(panel, page, "SELECT count(*) > 0 FROM user_badges WHERE badge_key = 'editor'", "the first award")
    panel.produce(event("u7", "edit.approved"))
    held = "SELECT count(*) > 0 FROM withheld_awards WHERE user_id = 'u7' AND state = '{}'"
    wait_for(panel, page, held.format("held"), "the award that is held")
    page.goto(f"{panel.address}/awards/quarantine?badge=editor")
    page.check("tr:has-text('u7') input[type=checkbox]")
    page.check("input[name=which][value=chosen]")
    page.fill("#f-note", "an import that ran twice")
    page.click("summary:has-text('Drop them')")
    page.click("text=Drop awards")
    expect(page.locator(".note.bad")).to_contain_text("type the badge's key")
    page.check("tr:has-text('u7') input[type=checkbox]")
    page.check("input[name=which][value=chosen]")
    page.fill("#f-note", "an import that ran twice")
    page.click("summary:has-text('Drop them')")
    page.fill("#f-confirm", "editor")
    shoot(page, "quarantine-drop")
    page.click("text=Drop awards")
    assert "1 award dropped." in page.inner_text(".note.ok")
    wait_for(panel, page, held.format("dropped"), "the stone")
    assert panel.rows("SELECT count(*) FROM user_badges WHERE user_id = 'u7'")[0][0] == 0
    page.goto(f"{panel.address}/settings/audit?action=quarantine.dropped")
    expect(page.locator("tbody tr").first).to_contain_text("an import that ran twice")
    shoot(page, "audit-of-a-drop")


def roll_back(panel: Served, page: Any) -> None:
    """A version from before is shown as a change, and rules again as a new one."""
    base = panel.address.replace("/panel", "/api/v1/admin/badges/editor")
    assert page.request.patch(base, data={"description": "Edits, approved"}).ok
    page.goto(f"{panel.address}/catalog/versions")
    page.click("tbody tr >> nth=0 >> text=What changed")
    expect(page.locator("main")).to_contain_text("description")
    shoot(page, "version-that-changed-words")
    page.go_back()
    page.click("tbody tr:nth-child(2) >> text=Roll back to it")
    page.wait_for_url("**/catalog/proposals/*")
    page.wait_for_selector("#population button.main")
    expect(page.locator("main")).to_contain_text("Editor")
    shoot(page, "roll-back-preview")
    page.fill("#f-note", "worse than before")
    page.click("#population button.main")
    page.wait_for_url("**said=*")
    page.goto(f"{panel.address}/catalog/versions")
    expect(page.locator("tbody tr").first).to_contain_text("worse than before")
    assert panel.rows("SELECT description FROM badges WHERE key = 'editor'")[0][0] == "An approved edit"


def how_rare_badges_are(panel: Served, page: Any) -> None:
    """Holders shows counts and days of every badge and leads to one badge's chart and its table."""
    page.goto(f"{panel.address}/awards")
    page.click(".actions >> text=Holders")
    row = page.locator("tbody tr:has-text('Commentator II')")
    expect(row).to_contain_text("spike")
    row.locator("a").first.click()
    page.wait_for_selector(".chart canvas")
    page.click("text=Show as table")
    # one more where it was given by hand before
    expect(page.locator("main details tbody tr").first).to_contain_text(re.compile(r"14[01]"))
    shoot(page, "holders-of-one-badge")


def whether_triggers_come(panel: Served, page: Any) -> None:
    """Coverage says what is silent and what nobody listens to, the worst first; a row opens its badges."""
    page.goto(f"{panel.address}/catalog/coverage")
    first = page.locator("tbody tr").first
    expect(first).to_contain_text("edit.approved")
    expect(first).to_contain_text("silent")
    first.locator("summary").first.click()
    expect(first).to_contain_text("Editor")
    shoot(page, "coverage-with-a-silent-trigger")
    first.locator("text=Sample event").click()
    expect(page.locator("h1")).to_have_text("Coverage of edit.approved")
    expect(page.locator("main")).to_contain_text("Its newest event is no longer in the log")
    panel.rows(
        """INSERT INTO events (user_id, id, type, occurred_at, payload, received_at)
           SELECT 'u9', 'sampled', type, last_at, '{"note": "<b id=bold>"}', last_at FROM event_days
           WHERE type = 'edit.approved' ORDER BY day DESC LIMIT 1 RETURNING 1"""
    )
    page.reload()
    expect(page.locator("pre[aria-label=Payload]")).to_contain_text('"note": "<b id=bold>"')
    assert page.locator("#bold").count() == 0
    shoot(page, "coverage-of-a-type")


def ask_what_would_be(panel: Served, page: Any) -> None:
    """A dry run answers for a user as of an instant, and with one event more; nothing is written."""
    before = panel.rows("SELECT count(*) FROM events")[0][0]
    page.goto(f"{panel.address}/diagnostics")
    page.click("text=Dry run")
    page.fill("#f-user", "u2")
    page.select_option("#f-badge", "nice_answer")
    page.fill("#f-event", '{"type": "answer.scored", "payload": {"post_id": 8, "score": 30}}')
    page.click("button:text-is('Ask')")
    expect(page.locator(".note.bad")).to_contain_text("occurred_at")
    at = '"occurred_at": "2026-03-01T12:00:00Z"'
    page.fill("#f-event", f'{{"type": "answer.scored", {at}, "payload": {{"post_id": 8, "score": 30}}}}')
    page.fill("#f-context", "8")
    page.click("button:text-is('Ask')")
    expect(page.locator("h2 .tag")).to_have_text("passed")
    shoot(page, "dry-run-with-one-event-more")
    page.fill("#f-at", "2025-01-01 00:00")
    page.click("button:text-is('Ask')")
    expect(page.locator("h2 .tag")).to_have_text("not yet")
    assert panel.rows("SELECT count(*) FROM events")[0][0] == before


def log_in_and_out(panel: Served, page: Any) -> None:
    """The first token closes the panel: it is asked for, lets its role in, and the session ends where it is left."""
    page.goto(f"{panel.address}/settings/tokens")
    page.fill("#f-name", "anna")
    page.select_option("#f-role", "support")
    page.click("text=Create token")
    token = page.inner_text("#made")
    shoot(page, "token-shown-once")
    for _ in range(50):  # a process follows the table of tokens, some seconds behind
        page.goto(f"{panel.address}/users/u1")
        if "/login?next=" in page.url:
            break
        page.wait_for_timeout(200)
    page.fill("#f-token", "bsk_of_nobody")
    page.click("button:text-is('Log in')")
    expect(page.locator(".note.bad")).to_contain_text("not known")
    shoot(page, "login-with-a-wrong-token")
    page.fill("#f-token", token)
    page.click("button:text-is('Log in')")
    page.wait_for_url("**/users/u1")
    expect(page.locator(".who")).to_contain_text("anna, support")
    page.goto(f"{panel.address}/settings/tokens")
    expect(page.locator("main")).to_contain_text("needs the role admin")
    shoot(page, "page-of-another-role")
    page.click("text=Log out")
    page.wait_for_url("**/login?said=*")
    expect(page.locator(".note.ok")).to_have_text("Logged out")
    page.goto(f"{panel.address}/users/u1")
    page.wait_for_url("**/login?next=**")


def ask_again(panel: Served, page: Any) -> None:
    """What is refused meanwhile says its request, is asked for again by a button; the note goes once it is there."""
    page.goto(f"{panel.address}/catalog")

    async def away(*_: Any) -> None:
        raise TransientError("the database does not answer")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("worker.admin.panel.pages.catalog._list", away)
        page.fill("#f-q", "nice")
        expect(page.locator("#notice")).to_contain_text("unavailable, request ")
        shoot(page, "refused-for-now")
        page.click("#notice >> text=Retry")
        expect(page.locator("#notice button:not([disabled])")).to_be_visible()
    expect(page.locator("#rows tbody tr")).not_to_have_count(1)
    page.click("#notice >> text=Retry")
    expect(page.locator("#rows tbody tr")).to_have_count(1)
    expect(page.locator("#notice")).to_be_empty()


def play_every_kind(panel: Served, page: Any) -> None:
    """Each kind of animation that the panel knows is played; a film plays to its end, again, and rests where asked."""
    film = Path(__file__).with_name("film.webm").read_bytes()
    page.route("https://films.example/**", lambda route: route.fulfill(body=film, content_type="video/webm"))
    shown = f"{panel.address}/diagnostics/milestone?badge=editor"
    for kind in KINDS:
        page.goto(f"{shown}&kind={kind}")
        page.wait_for_selector(f".stage[data-shown={kind}]")
        played = ".stage canvas, .stage video"
        expect(page.locator(played)).to_have_count(0 if kind == "none" else 1)
    page.goto(shown)
    page.wait_for_selector(".stage[data-shown=webm]")
    video = "document.querySelector('.stage video')"
    page.wait_for_function(f"() => {video}.ended")
    page.evaluate(f"() => {{ window.again = new Promise((end) => {video}.onended = end); }}")
    page.click("text=Show again")
    page.evaluate("() => window.again.then(() => null)")
    shoot(page, "milestone-with-a-film")
    page.emulate_media(reduced_motion="reduce")
    page.reload()
    page.wait_for_selector(".stage [data-still]:not([hidden])")
    assert page.evaluate(f"{video}.played.length") == 0


def lose_the_server(panel: Served, page: Any) -> None:
    """Where looking again is not answered, a note says so and as of when the page is, until it is answered again."""
    page.clock.install()
    page.goto(f"{panel.address}/")
    page.wait_for_selector("#state[data-htmx-powered]")
    page.route("**/_/health", lambda route: route.abort("connectionreset"))
    page.clock.run_for(5_000)
    note = page.locator("#notice .note")
    expect(note).to_contain_text(re.compile(r"not reached. What is shown is as of \d\d:\d\d:\d\d. It is asked again"))
    expect(page.locator("#announce")).to_have_text("The server is not reached")
    shoot(page, "server-not-reached")
    page.locator("#notice >> text=Retry").focus()
    page.clock.run_for(5_000)
    expect(note).to_have_count(1)
    assert page.evaluate("document.activeElement.textContent") == "Retry"
    page.unroute("**/_/health")
    page.keyboard.press("Enter")
    expect(page.locator("#notice")).to_be_empty()
    expect(page.locator("#announce")).to_have_text("The server is reached again")
    assert page.evaluate("document.activeElement.id") == "main"


def see_what_is_connected(panel: Served, page: Any) -> None:
    """Connections shows what `badges doctor` finds, by itself, once all is checked."""
    page.goto(f"{panel.address}/settings")
    page.click("main >> text=Connections")
    checks = page.locator("#checks table")
    expect(checks.locator("caption")).to_contain_text(re.compile(r"\d+ ok, \d+ warnings?, 0 failed"))
    for what, found in (("database", "PostgreSQL"), ("kafka", "1 broker"), ("catalog", "no fault")):
        expect(checks.locator(f"tr:has(th:text-is('{what}'))").last).to_contain_text(found)
    shoot(page, "connections-checked")


#: In the order in which they are told: each stands alone, but for the last, which closes the panel.
STORIES = (
    ask_again,
    lose_the_server,
    recompute_a_user,
    stop_a_job,
    hear_of_a_jobs_end,
    grant_and_revoke,
    drop_what_is_held,
    how_rare_badges_are,
    whether_triggers_come,
    play_every_kind,
    ask_what_would_be,
    replay_a_dead_letter,
    roll_back,
    see_what_is_connected,
)


def write_hostile_texts(panel: Served, page: Any) -> None:
    """Texts that a careless page would act on stand in a badge, ids, a context, a note, a payload; pages are opened."""
    api, text = panel.address.replace("/panel", "/api/v1"), " ".join(HOSTILE)
    body = {
        "name": text[:200],
        "key": "hostile_texts",
        "description": text,
        "family": HOSTILE[0],
        "icon": HOSTILE[2],
        "flow_definition": {"event": "answer.scored", "criteria": {"score": {"$gte": 100}}},
        "per": "post_id",
        "translations": {"de": {"label": HOSTILE[1], "description": text}},
    }
    made = page.request.post(f"{api}/admin/badges", data=body)
    assert made.ok, made.text()
    user = HOSTILE[1]
    sent = {**event(user, "answer.scored", post_id=11, score=100), "source": HOSTILE[0]}
    assert page.request.post(f"{api}/events", data=sent).ok
    panel.produce({**event(HOSTILE[2], "answer.scored"), "type": HOSTILE[0]})
    wait_for(panel, page, "SELECT count(*) >= 1 FROM user_badges WHERE badge_key = 'hostile_texts'", "the award")
    grant = {"user_id": user, "badge_key": "hostile_texts", "context": HOSTILE[3], "note": text}
    assert page.request.post(f"{api}/admin/grants", data=grant).ok
    who = quote(user, safe="")
    for path in (
        "/",
        "/catalog",
        "/badges/hostile_texts",
        "/badges/hostile_texts/edit",
        f"/catalog?find={quote(text[:100])}",
        "/catalog/translations?lang=de",
        "/catalog/versions",
        "/users",
        f"/users/{who}",
        f"/users/{who}/history",
        f"/users/{who}/grant?badge=hostile_texts",
        f"/users/{who}/why/hostile_texts?context=11",
        "/awards",
        "/dead-letters",
        f"/diagnostics/dry-run?user={who}&badge=hostile_texts",
        f"/diagnostics/simulator?user={who}",
        f"/diagnostics/milestone?badge=hostile_texts&lang=de&user={who}",
        "/settings/audit",
    ):
        assert page.goto(f"{panel.address}{path}").ok, path
        assert page.locator("svg[onload], img[onerror], [onfocus], a[href^='javascript:']").count() == 0, path
    assert "49" not in page.inner_text("title")
