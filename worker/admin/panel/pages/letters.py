"""Dead letters: what could not be read and why, by reason, and as CSV; one of them with its bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from fastapi import Request
from starlette.responses import RedirectResponse, Response

from worker.admin.panel.frame import ROOT, is_fragment
from worker.admin.panel.page import PAGE, Opened, Page
from worker.admin.panel.pages.badge import flow_text
from worker.admin.panel.tables import EXPORTS, csv_answer
from worker.admin.roles import Role, least
from worker.admin.routes import few, guarded_router
from worker.events import format_instant
from worker.events.envelope import said_type
from worker.events.instants import DAY

router = guarded_router(prefix=ROOT, include_in_schema=False)

#: What each reason asks for.
REMEDIES: Final = {
    "not_json": "The record is no JSON: the producer must be mended.",
    "too_large": "A record may have 256 KiB.",
    "too_deep": "Objects and arrays may lie 32 deep.",
    "missing_field": "An event needs type, user_id and occurred_at.",
    "invalid_field": "A field has a value it may not have.",
    "unknown_event_type": "Add the type, or an alias of it, to the catalog; then replay.",
    "payload_invalid": "The payload is not what the type's schema asks for: mend one of the two; then replay.",
    "occurred_in_future": "The event's time lies ahead of the record's: a clock is wrong.",
    "too_old": "Events of this type are kept for a shorter time.",
    "erased": "The user was erased; nothing is to be done.",
    "id_conflict": "Another event of this id is logged with other content: ids must be drawn once.",
}
SINCE: Final = {"1 h": DAY // 24, "24 h": DAY, "7 days": 7 * DAY, "30 days": 30 * DAY}
_SHOWN_BYTES: Final = 16 * 1024
#: Rows of a CSV; what is older is fetched by narrower filters.
_MOST_ROWS: Final = 20_000


@router.get("/dead-letters")
@least(Role.READER)
async def letters(
    page: Opened, reason: str = "", type: str = "", topic: str = "", since: str = "", before: int | None = None
) -> Response:
    """The list, with how many there are for each reason."""
    reads = page.desk.reads
    meant = _meant(page, reason, type, topic, since)
    found = await reads.panel_letters(**meant, before=before, limit=PAGE + 1)
    helps = page.may(Role.SUPPORT)
    return await page.show(
        "letters.html",
        title="Dead letters",
        section="Dead letters",
        given={"reason": reason, "type": type[:200], "topic": topic, "since": since},
        types=[] if page.catalog is None else sorted(page.catalog.dictionary.types),
        counts=await reads.panel_letter_counts(),
        reasons=sorted(REMEDIES),
        topics=await reads.panel_topics(),
        spans=list(SINCE),
        letters_found=found[:PAGE],
        older=found[PAGE - 1].number if len(found) > PAGE else None,
        filtered=bool(reason or type or topic or since),
        most=_MOST_ROWS,
        replaying=page.desk.letters_replay() if helps else None,
        waiting=await reads.panel_waiting_letters(**meant) if helps else (0, False),
    )


@router.get("/dead-letters.csv")
@few(EXPORTS)
@least(Role.READER)
async def letters_csv(page: Opened, reason: str = "", type: str = "", topic: str = "", since: str = "") -> Response:
    """The filtered list as CSV, in UTC, without the bytes."""
    found = await page.desk.reads.panel_letters(**_meant(page, reason, type, topic, since), limit=_MOST_ROWS)
    names = (
        "number", "buried_at", "reason", "path", "detail", "type", "user_id", "topic", "partition", "offset",
        "incarnation", "length", "recorded_at", "state",
    )  # fmt: skip
    lines = (
        (
            one.number, format_instant(one.buried_us), one.reason, one.path, one.detail, one.said_type or "",
            one.user_id or "", one.topic, one.partition, one.offset, one.incarnation, one.length,
            "" if one.recorded_us is None else format_instant(one.recorded_us), one.state,
        )
        for one in found
    )  # fmt: skip
    return await csv_answer("dead-letters.csv", names, lines)


def _meant(page: Page, reason: str, type: str, topic: str, since: str) -> dict[str, Any]:
    """Which letters a filter means."""
    span = SINCE.get(since)
    return {
        "reason": reason or None,
        "topic": topic or None,
        "since_us": None if span is None else page.desk.now() - span,
        "event_type": type[:200].replace("\0", "") or None,
    }


@router.get("/_/dead-letters")
@least(Role.READER)
async def counts(request: Request, page: Opened) -> Response:
    """How many there are for each reason, looked at again every 15 seconds."""
    if not is_fragment(request):
        return RedirectResponse(f"{ROOT}/dead-letters", 303)
    return page.part("letters_counts.html", counts=await page.desk.reads.panel_letter_counts())


@router.get("/dead-letters/{topic}/{partition}/{offset}")
@least(Role.SUPPORT)
async def letter(page: Opened, topic: str, partition: int, offset: int) -> Response:
    """One dead letter: coordinates, reason, bytes as text and in hex."""
    bounded = 0 <= partition < 2**31 and 0 <= offset < 2**63
    found = await page.desk.reads.dead_letter(topic[:249], partition, offset) if bounded else None
    if found is None:
        return await page.missing(
            "There is no such dead letter",
            "It may have been removed for its age, or with its user.",
            section="Dead letters",
            link="/dead-letters",
            act="All dead letters",
        )
    return await page.show(
        "letter.html",
        title=f"{topic} {partition}:{offset}",
        section="Dead letters",
        letter=found,
        remedy=REMEDIES.get(found.reason, ""),
        key=(found.key or b"").decode("utf-8", "backslashreplace")[:500],
        record_headers=[
            (name, (value or b"").decode("utf-8", "backslashreplace")) for name, value in found.headers or ()
        ],
        schema=_schema(page, found.raw or b"", found.headers or ()),
        **_shown(found.raw or b""),
    )


def _schema(page: Page, raw: bytes, headers: Sequence[tuple[str, bytes | None]]) -> tuple[str, str] | None:
    """The event type that a record says it is of, by its name, and its schema; None where the catalog has none."""
    said = said_type(raw, headers)
    for name, entry in (page.catalog.document.get("events") or {}).items() if page.catalog is not None else ():
        if said is not None and (said == name or said in ((entry or {}).get("aliases") or ())):
            return name, flow_text((entry or {}).get("schema") or {})
    return None


def _printable(row: bytes) -> str:
    return "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)


def _shown(raw: bytes) -> dict[str, Any]:
    head = raw[:_SHOWN_BYTES]
    rows = [(at, head[at : at + 16]) for at in range(0, min(len(head), 1024), 16)]
    lines = [f"{at:06x}  {row.hex(' '):<47}  {_printable(row)}" for at, row in rows]
    return {"text": head.decode("utf-8", "backslashreplace"), "hex": "\n".join(lines), "cut": len(raw) > len(head)}
