"""A browser for tests: which one this machine has, what it complains of, and what is kept of what it showed."""

from __future__ import annotations

import shutil
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.integration.panel_served import Served
from tests.rig.required import missing

#: What CI keeps of a run.
SHOTS = Path(__file__).parents[2] / ".cache" / "screenshots"
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


def find_browser() -> str:
    """A browser of this machine; without one the test is skipped, or fails where BADGES_TEST_REQUIRE names it."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    return found or missing("browser", f"none is on PATH ({', '.join(BROWSERS)})")


def event(user: str, kind: str, **payload: Any) -> dict[str, Any]:
    """An event that happens now."""
    at = datetime.now(UTC).isoformat()
    return {"id": uuid.uuid4().hex, "type": kind, "user_id": user, "occurred_at": at, "payload": payload}


def opened(browser: Any, **options: Any) -> tuple[Any, list[str]]:
    """A page of a context of its own, and the list of what its console complains of, faults and dialogs included."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
    context.set_default_timeout(15_000)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda said: complaints.extend(_complaint(said)))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: (complaints.append(f"a dialog: {dialog.message}"), dialog.dismiss()))
    return page, complaints


def serious(complaints: list[str]) -> list[str]:
    """Complaints but for those of refusals and of cut connections, which tests bring about."""
    brought = ("status of 4", "status of 503", "ERR_CONNECTION_RESET", "Failed to fetch")
    return [one for one in complaints if not any(text in one for text in brought)]


def _complaint(said: Any) -> list[str]:
    return [f"{said.text} ({said.location})"] if said.type in ("error", "warning") else []


def shoot(page: Any, name: str) -> None:
    """Keep what the page looks like."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=str(SHOTS / f"{name}.png"), full_page=True)


def write(page: Any, field: str, text: str) -> None:
    """Put a text into an editor, as pasting it over all there is does."""
    page.wait_for_selector(f"#{field}-editor .ace_text-input", state="attached")
    page.evaluate("([id, text]) => document.getElementById(id).env.editor.setValue(text, 1)", [f"{field}-editor", text])


def wait_for(panel: Served, page: Any, query: str, what: str) -> None:
    """Wait until a query's first value is true."""
    for _ in range(200):
        if panel.rows(query)[0][0]:
            return
        page.wait_for_timeout(50)
    pytest.fail(f"{what} did not come")
