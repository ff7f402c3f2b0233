"""A user's badges as a profile page shows them: sorted, in a language, as bytes that are quickly put together."""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2s
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from worker.admin.answers import as_json
from worker.admin.catalog_view import Known, View
from worker.events import format_instant
from worker.exchange import AuditLine

#: Texts outside of `translations` are taken for this language by those who ask for several.
_OWN_LANGUAGE: Final = "en"
_MOST_LANGUAGES: Final = 10
_text: Final = msgspec.json.Encoder().encode


class AwardFacts(Protocol):
    """One award a user holds; `metadata` is JSON text, instants are microseconds."""

    @property
    def badge_key(self) -> str:
        """Of which badge."""

    @property
    def context(self) -> str:
        """For which value of its `per` field; empty where it has none."""

    @property
    def awarded_us(self) -> int:
        """When it was earned."""

    @property
    def sort_override(self) -> int | None:
        """Its place on the profile, where it was set by hand."""

    @property
    def origin(self) -> str:
        """live, late, backfill, cron or manual."""

    @property
    def source(self) -> str:
        """auto or manual."""

    @property
    def sequence(self) -> int:
        """Its number in the user's line of awards."""

    @property
    def metadata(self) -> str:
        """Why."""

    @property
    def stamp(self) -> int:
        """Another number wherever what is shown of it is another."""


class Profiles(Protocol):
    """The awards of users."""

    async def awards(self, user_id: str) -> tuple[int, Sequence[AwardFacts]]:
        """The version of the catalog that rules now, and what the user holds."""

    async def stamp(self, user_id: str) -> tuple[int, int]:
        """The version of the catalog that rules now, and the exclusive or of the stamps of what the user holds."""

    async def set_sort_override(
        self, user_id: str, badge_key: str, context: str | None, value: int | None, *, line: Callable[[int], AuditLine]
    ) -> int:
        """Place awards of a badge by hand; how many the user holds of it. `line` makes of that what the log says."""


class Asked(NamedTuple):
    """How a profile is asked for: the languages wanted most, `metadata` as an object, how many badges (None: all).

    `hidden`: with the badges that only who holds them sees.
    """

    languages: tuple[str, ...]
    as_object: bool
    top: int | None
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class _Face:
    """A badge as it is shown in a language: the JSON of all that every holder's award shares."""

    head: bytes
    sort_score: int
    description: str
    has_since: bool
    hidden: bool


class ProfilePages:
    """Puts profiles together for one version of the catalog; keeps each badge's part by language."""

    def __init__(self, view: View) -> None:
        self.view = view
        self._known = _languages(view)
        self._faces: dict[tuple[tuple[str, ...], str], _Face | None] = {}

    def languages(self, wanted: Iterable[str]) -> tuple[str, ...]:
        """Of the languages wanted, in their order, those that some badge is translated into, up to its own texts."""
        found: list[str] = []
        for tag in wanted:
            lower = tag.lower()
            exact = next((known for known in (lower, lower.partition("-")[0]) if known in self._known), None)
            if exact is not None and exact not in found:
                found.append(exact)
            elif lower.partition("-")[0] in (_OWN_LANGUAGE, "*"):
                break
        return tuple(found[:_MOST_LANGUAGES])

    def tag(self, stamp: int, asked: Asked) -> str:
        """The entity tag of a profile: another one wherever the page would differ. `stamp`: of all awards."""
        named = f"{self.view.version} {asked} {stamp}"
        return f'"{blake2s(named.encode(), digest_size=12).hexdigest()}"'

    def page(self, awards: Sequence[AwardFacts], asked: Asked) -> bytes:
        """A bare array, one item for each award, the highest first; drafts are not shown."""
        shown = []
        for one in awards:
            face = self._face(one.badge_key, asked.languages)
            if face is not None and (asked.hidden or not face.hidden):
                place = face.sort_score if one.sort_override is None else one.sort_override
                shown.append((-place, -one.awarded_us, one.badge_key, one.context, face, one))
        shown.sort(key=lambda entry: entry[:4])
        items = [_item(face, one, as_object=asked.as_object) for *_, face, one in shown[: asked.top]]
        return b"[" + b",".join(items) + b"]"

    def _face(self, key: str, languages: tuple[str, ...]) -> _Face | None:
        place = (languages, key)
        if place not in self._faces:
            known = self.view.badges.get(key)
            self._faces[place] = None if known is None or known.status == "draft" else _face_of(known, languages)
        return self._faces[place]


def stamp_of(awards: Iterable[AwardFacts]) -> int:
    """The stamp of all awards, whatever their order."""
    found = 0
    for one in awards:
        found ^= one.stamp
    return found


def accepted_languages(header: str) -> list[str]:
    """The tags of an Accept-Language header, most wanted first; what is malformed or not wanted is left out."""
    found: list[tuple[float, int, str]] = []
    for index, part in enumerate(header[:1_000].split(",")):
        tag, _, quality = part.strip().partition(";")
        weight = quality.strip().removeprefix("q=") if quality else "1"
        try:
            share = float(weight)
        except ValueError:
            continue
        if tag.strip() and 0 < share <= 1:
            found.append((-share, index, tag.strip()))
    return [tag for _, _, tag in sorted(found)]


def _languages(view: View) -> frozenset[str]:
    return frozenset(tag.lower() for badge in view.catalog.badges for tag in badge.translations)


def _face_of(known: Known, languages: tuple[str, ...]) -> _Face:
    facts, badge = known.facts, known.badge
    words: Mapping[str, str] = {}
    if badge is not None and languages:
        by_tag = {tag.lower(): texts for tag, texts in badge.translations.items()}
        words = next((by_tag[tag] for tag in languages if tag in by_tag), {})
    description = words.get("description", facts.description if badge is None else badge.description)
    shown = {
        "id": facts.id,
        "key": facts.key,
        "name": words.get("label", known.label),
        "image_url": None if badge is None else badge.image_url,
        "family": facts.family if badge is None else badge.family,
        "tier": facts.tier if badge is None else badge.tier,
        "icon": None if badge is None else badge.icon,
        "color": None if badge is None else badge.color,
        "animation": None if badge is None else badge.animation,
        "status": known.status,
        "sort_score": facts.sort_score if badge is None else badge.sort_score,
    }
    has_since = "{since}" in description
    if not has_since:
        shown |= {"description": description, "tooltip": description or shown["name"]}
    score = facts.sort_score if badge is None else badge.sort_score
    return _Face(as_json(shown)[:-1], score, description, has_since, known.status == "hidden")


def _item(face: _Face, one: AwardFacts, *, as_object: bool) -> bytes:
    """One award as JSON: what the badge's holders share, then what is this one's own."""
    head = face.head
    if face.has_since:
        said = _text(face.description.replace("{since}", _since(one)))
        head = b'%b,"description":%b,"tooltip":%b' % (head, said, said)
    data = one.metadata.encode()
    override = b"null" if one.sort_override is None else b"%d" % one.sort_override
    return b'%b,"context":%b,"awarded_at":"%b","origin":"%b","source":"%b","sort_override":%b,"metadata":%b}' % (
        head,
        _text(one.context) if one.context else b'""',
        format_instant(one.awarded_us).encode(),
        one.origin.encode(),
        one.source.encode(),
        override,
        data if as_object else b'"%b"' % b2a_base64(data, newline=False),
    )


def _since(one: AwardFacts) -> str:
    """The day since which a tenure counts; of an award by hand the day it was given."""
    try:
        found: Any = msgspec.json.decode(one.metadata)
    except msgspec.DecodeError:
        found = None
    since = found.get("since") if isinstance(found, dict) else None
    return since[:10] if isinstance(since, str) else format_instant(one.awarded_us)[:10]
