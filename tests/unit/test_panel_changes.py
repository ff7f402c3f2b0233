"""Changes of the catalog in the panel: faults are marked at their places, nothing is applied before it was seen."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.unit.desk import HOSTILE, FakeDesk, catalog_of, document, panel
from tests.unit.serving import FakeStore, client
from tests.unit.test_panel import check_markup
from worker.admin.panel import wording
from worker.admin.panel.animations import shown
from worker.admin.panel.judging import judge
from worker.admin.roles import Role

FLOW = '{\n  "event": "question.scored",\n  "criteria": {"scroe": {"$gte": 10}}\n}'


def form(flow: str, **values: str) -> dict[str, str]:
    """A badge's form."""
    return {"label": "New one", "flow": flow, "status": "active", "revocable": "never", "animation": "none", **values}


async def test_a_fault_has_its_place() -> None:
    """A wrong field is marked in the flow's text: where it begins and ends, with code, pointer and what to write."""
    judged = await judge(FakeDesk(), catalog_of(document()), None, form(FLOW))
    (mark,) = judged.marks
    assert (mark.code, mark.path, mark.line) == ("unknown_field", "/flow/criteria/scroe", 3)
    assert FLOW[mark.start : mark.end] == '"scroe"'
    assert 'Write "score"' in mark.help
    assert not judged.clean
    assert (3, '  "criteria": {', '"scroe"', ': {"$gte": 10}}') in judged.lines


@pytest.mark.parametrize("flow", ["", "{", '{"event": "question.scored",}', "[1]", "nul", '"x"', "{}" * 3, "1" * 50])
async def test_any_text_is_judged(flow: str) -> None:
    """Text that is no flow is told as such, with its place where it has one."""
    judged = await judge(FakeDesk(), catalog_of(document()), None, form(flow))
    assert judged.marks
    assert not judged.clean
    assert all(mark.message for mark in judged.marks)


async def test_a_clean_form_reads_as_words() -> None:
    """A form without a fault says what the engine reads."""
    judged = await judge(FakeDesk(), catalog_of(document()), None, form(FLOW.replace("scroe", "score")))
    assert judged.clean
    assert judged.takes.endswith("with score at least 10")
    assert judged.edit is not None
    assert judged.edit.key == "new_one"


async def test_fields_beside_the_flow() -> None:
    """A number that is none and a colour that is none are told at their fields; an emptied field is taken away."""
    good = FLOW.replace("scroe", "score")
    catalog = catalog_of(document())
    badge = next(one for one in catalog.badges if one.key == "nice_question")
    (mark,) = (await judge(FakeDesk(), catalog, badge, form(good, sort_score="x"))).marks
    assert mark.field == "f-sort_score"
    marks = (await judge(FakeDesk(), catalog, badge, form(good, color="red"))).marks
    assert "f-color" in {mark.field for mark in marks}
    judged = await judge(FakeDesk(), catalog, badge, form(good, per="post_id"))
    assert judged.clean
    assert judged.edit is not None
    assert "family" not in judged.edit.document["badges"][0]
    assert judged.edit.document["badges"][0]["translations"] == {"de": {"label": "Nice question"}}


def author(desk: FakeDesk, store: FakeStore | None = None) -> Any:
    """A client with the role author."""
    return client(panel(desk, store), Role.AUTHOR)


def test_from_form_to_version() -> None:
    """A clean form leads to its preview, Apply makes it rule with the note, and the audit log has one line of it."""
    desk, store = FakeDesk(), FakeStore()
    user = author(desk, store)
    faulty = user.post("/panel/catalog/new", data=form(FLOW))
    assert faulty.status_code == 422
    check_markup(faulty.text)
    assert "<title>Error: " in faulty.text
    assert 'href="#f-flow"' in faulty.text
    assert not desk.proposals
    went = user.post("/panel/catalog/new", data=form(FLOW.replace("scroe", "score")))
    assert went.headers["location"] == "/panel/catalog/proposals/p0"
    preview = user.get("/panel/catalog/proposals/p0")
    assert "New one" in preview.text
    check_markup(preview.text)
    done = user.post("/panel/catalog/proposals/p0", data={"note": "why"})
    assert done.status_code == 303
    assert desk.applied[0][1:] == ("author token", "why")
    assert [change[:3] for change in store.changes] == [("author token", "catalog.applied", "version 4")]


def test_nothing_is_applied_before_its_preview() -> None:
    """While the population is looked at there is no Apply, and one that comes is refused."""
    desk = FakeDesk(slow=True)
    user = author(desk)
    user.post("/panel/badges/nice_question/edit", data=form('{"event": "comment.posted"}'))
    page = user.get("/panel/catalog/proposals/p0").text
    assert "<progress" in page
    assert "Apply" not in page
    assert user.post("/panel/catalog/proposals/p0").status_code == 409
    assert user.get("/panel/_/catalog/proposals/p0", headers={"HX-Request": "true"}).status_code == 200
    assert user.get("/panel/catalog/proposals/p9").status_code == 404
    assert desk.applied == []


def test_who_was_faster() -> None:
    """Where another version came between, both changes stand side by side and nothing is changed."""
    desk = FakeDesk(overtaken=True)
    user = author(desk)
    user.post("/panel/badges/nice_question/edit", data=form('{"event": "comment.posted"}'))
    got = user.post("/panel/catalog/proposals/p0")
    assert got.status_code == 409
    assert "Version 2 rules by now" in got.text
    check_markup(got.text)


def test_roll_back_is_a_proposal() -> None:
    """An earlier version is looked at like any change; a link to it does nothing."""
    desk = FakeDesk()
    assert author(desk).get("/panel/catalog/versions/1/rollback").status_code == 405
    assert desk.proposals == {}
    went = author(desk).post("/panel/catalog/versions/1/rollback")
    assert went.headers["location"] == "/panel/catalog/proposals/p0"
    assert desk.applied == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("get", "/catalog/new"),
        ("post", "/catalog/new"),
        ("get", "/badges/nice_question/edit"),
        ("post", "/badges/nice_question/edit"),
        ("post", "/catalog/versions/1/rollback"),
        ("post", "/catalog/translations"),
    ],
)
def test_a_catalog_of_a_file_is_not_changed(method: str, path: str) -> None:
    """Where a file rules, every change is refused with the reason."""
    desk = FakeDesk(managed_by_file=True)
    got = getattr(author(desk), method)(f"/panel{path}", **({"data": {"x": "y"}} if method == "post" else {}))
    assert got.status_code == 409
    assert "managed by a file" in got.text


def test_lint_while_typing() -> None:
    """The fragment says what the engine reads, and keeps scripts in a text as text."""
    user = author(FakeDesk())
    got = user.post("/panel/_/lint", data=form(json.dumps({"event": HOSTILE})), headers={"HX-Request": "true"})
    assert got.status_code == 200
    assert "<script>alert" not in got.text
    check_markup(got.text)


def test_translations_are_written_in_their_cells() -> None:
    """Cells that changed become one version; what has a strange placeholder is refused with a sentence."""
    app, store = panel(FakeDesk(), audit := FakeStore()), audit
    user = client(app, Role.AUTHOR)
    cell = "nice_question|label|de"

    def rules() -> Any:
        return asyncio.run(app.state.services.catalog.view()).catalog.document["badges"][0].get("translations")

    same = user.post("/panel/catalog/translations?lang=de", data={cell: "Nice question"})
    assert same.status_code == 303
    assert store.changes == []
    done = user.post("/panel/catalog/translations?lang=de", data={cell: "Gute Frage"})
    assert "1 text translated: version 2 rules." in user.get(done.headers["location"]).text
    assert rules() == {"de": {"label": "Gute Frage"}}
    wrong = user.post("/panel/catalog/translations", data={"nice_question|label|fr": "{level}"})
    assert wrong.status_code == 422
    assert "has no {level}" in wrong.text
    one = user.post("/panel/_/catalog/translations", params={"cell": cell}, data={cell: "Schöne Frage"})
    assert "saved" in one.text
    assert 'value="Schöne Frage"' in one.text
    assert "versions/2/rollback" in one.text
    assert rules() == {"de": {"label": "Schöne Frage"}}
    strange = user.post("/panel/_/catalog/translations", params={"cell": cell}, data={cell: "{level}"})
    assert "has no {level}" in strange.text
    assert rules() == {"de": {"label": "Schöne Frage"}}
    for odd in ("", "nope|label|de", "a|b", "nice_question|x|de", HOSTILE):
        answer = user.post("/panel/_/catalog/translations", params={"cell": odd}, data={odd: "x"})
        assert answer.status_code == 200
        assert "<script>alert" not in answer.text
    assert [change[1] for change in store.changes] == ["catalog.translated"] * 2


def test_words_that_change_are_shown_one_by_one() -> None:
    """What a change says in other languages stands in its preview: as it was, and as it becomes."""
    new = document()
    new["badges"][0]["translations"] = {"fr": {"label": "Bonne question"}, "de": {"label": "Gute Frage"}}
    found = wording.differences(document(), new)
    assert [(one.key, one.field, one.language, one.old, one.new) for one in found] == [
        ("nice_question", "label", "de", "Nice question", "Gute Frage"),
        ("nice_question", "label", "fr", "", "Bonne question"),
    ]
    assert wording.differences(new, new) == []
    user = author(FakeDesk())
    data = json.dumps({"nice_question": {"fr": {"label": "Bonne question"}}})
    went = user.post("/panel/catalog/translations/import", files={"file": ("t.json", data, "application/json")})
    shown = user.get(went.headers["location"]).text
    assert "Bonne question" in shown
    assert "missing" in shown
    check_markup(shown)


def test_translations_go_out_and_in() -> None:
    """What is exported is imported without a change; an empty text takes one away; strange files are told."""
    found = document()
    out = wording.exported(found)
    texts, wrong = wording.imported(out)
    assert wrong == []
    assert wording.changed(found, texts) == (found, [])
    gone, _ = wording.changed(found, {("nice_question", "label", "de"): ""})
    assert "translations" not in gone["badges"][0]
    for strange in ([], {"a": 1}, {"a": {"de": 1}}, {"a": {"de": {"label": 1}}}):
        assert wording.imported(strange)[1]
    assert wording.changed(found, {("nope", "label", "de"): "x"})[1] == ["The catalog has no entry nope."]
    assert wording.lines(found, ["de"])[-1].texts == {"de": "Nice question"}


def test_import_is_looked_at_first() -> None:
    """A file leads to a preview; one that is no JSON is told."""
    desk = FakeDesk()
    user = author(desk)
    data = json.dumps({"nice_question": {"fr": {"label": "Bonne question"}}})
    went = user.post("/panel/catalog/translations/import", files={"file": ("t.json", data, "application/json")})
    assert went.headers["location"] == "/panel/catalog/proposals/p0"
    wrong = user.post("/panel/catalog/translations/import", files={"file": ("t.json", "{", "application/json")})
    assert wrong.status_code == 422
    assert desk.applied == []


def test_animations() -> None:
    """A badge's own animation is shown, or the one asked for; an unknown kind shows none, a film must be https."""
    assert shown({"kind": "confetti", "particles": 50, "x": 1}) == {"kind": "confetti", "particles": 50}
    assert shown({"kind": "fire"}) == {"kind": "none", "unknown": "fire"}
    assert shown({"kind": "webm", "url": "javascript:x"}) == {"kind": "webm"}
    assert shown(None, "confetti") == {"kind": "confetti", "particles": 120}


async def test_a_form_offers_animations_that_are_whole() -> None:
    """A film needs its address, which no form has: it is not offered, and without one refused at its field."""
    page = author(FakeDesk()).get("/panel/catalog/new").text
    assert ("<option>confetti</option>" in page, "<option>webm</option>" in page) == (True, False)
    flow = FLOW.replace("scroe", "score")
    judged = await judge(FakeDesk(), catalog_of(document()), None, form(flow, animation="webm"))
    assert [(mark.code, mark.field) for mark in judged.marks] == [("missing_key", "f-animation")]


def test_the_editor_knows_the_catalogs_words() -> None:
    """One answer has operators with their meanings, event types with the fields of their schemas, metrics, badges."""
    user = author(FakeDesk())
    found = user.get("/panel/_/words")
    assert found.headers["content-type"] == "application/json"
    words = found.json()
    assert [name for name, _ in words["events"]["question.scored"]["fields"]] == ["score", "post_id"]
    assert {"event", "criteria", "$and", "snapshot"} <= {name for name, _ in words["flow"]}
    assert {"$eventCount", "timestamp"} <= {name for name, _ in words["criteria"]}
    assert ["$gte", "at least"] in words["field"]
    assert {"last", "flow"} <= {name for name, _ in words["inside"]["$timeWindow"]}
    assert words["metrics"] == [["comments", "a metric"]]
    assert ["nice_question", "Nice question"] in words["badges"]
    assert client(panel(FakeDesk()), Role.READER).get("/panel/_/words").status_code == 403
