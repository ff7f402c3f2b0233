"""README.md taken apart: its code blocks and its tables."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """The code blocks written in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Every command of every shell block."""
    return [line for block in blocks("(?:sh|console)") for line in block.splitlines() if line.strip()]


def needs_services(command: str) -> bool:
    """Whether a command of badges talks to a broker or a database."""
    return command.startswith(
        (
            "badges admin",
            "badges backfill",
            "badges bench",
            "badges catalog apply",
            "badges catalog diff",
            "badges catalog versions",
            "badges db",
            "badges dlq",
            "badges doctor",
            "badges quarantine",
            "badges recompute",
            "badges replay",
            "badges schedule",
            "badges tokens",
            "badges topics",
            "badges worker",
        )
    )


def rows(text: str) -> list[str]:
    """The rows of all Markdown tables."""
    return [line for line in text.splitlines() if line.startswith("| ")]
