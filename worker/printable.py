"""Text from outside made safe to show: what a terminal or a log reader would act on is written as an escape."""

from __future__ import annotations


def printable(text: str, *, keep: str = "") -> str:
    """Every character that does not print (line ends, ESC, bidi marks) is escaped, but for those in `keep`."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in keep else char.encode("unicode_escape").decode("ascii") for char in text
    )
