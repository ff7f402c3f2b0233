"""What a catalog says in each language: one line a text, missing ones first; changed, exported, imported."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

Document = Mapping[str, Any]
#: (entry's key, field, language) to text; an empty text takes the translation away.
Texts = Mapping[tuple[str, str, str], str]

_SECTIONS: Final = ("badges", "ladders", "tenures", "milestones")
FIELDS: Final = ("label", "description")
_NAMES: Final = {"milestones": {"label": "title"}}
_PLACE: Final = re.compile(r"\{[a-z_]+\}")
LANGUAGE: Final = re.compile(r"[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8})*")
_LONGEST: Final = 2_000


@dataclass(frozen=True, slots=True)
class Difference:
    """One translated text that changes: as it was and as it becomes ("" where there is none)."""

    key: str
    field: str
    language: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Line:
    """One text: whose, which, as the catalog has it, and in each language ("" where it is missing)."""

    section: str
    key: str
    field: str
    source: str
    texts: Mapping[str, str]

    @property
    def missing(self) -> bool:
        """Whether a language lacks it."""
        return any(not text for text in self.texts.values())


def languages(document: Document) -> list[str]:
    """The languages that some entry is translated into."""
    return sorted({name for _, entry in _entries(document) for name in entry.get("translations") or {}})


def lines(document: Document, wanted: Iterable[str], *, missing: bool = False) -> list[Line]:
    """Every text of the catalog with its translations into some languages; missing ones first."""
    chosen = list(wanted)
    found = []
    for section, entry in _entries(document):
        for field in FIELDS:
            source = entry.get(_NAMES.get(section, {}).get(field, field))
            if not source:
                continue
            translated = entry.get("translations") or {}
            texts = {name: str((translated.get(name) or {}).get(field) or "") for name in chosen}
            found.append(Line(section, _key(entry), field, str(source), texts))
    if missing:
        found = [line for line in found if line.missing]
    return sorted(found, key=lambda line: not line.missing)


def changed(document: Document, texts: Texts) -> tuple[dict[str, Any], list[str]]:
    """The document with these texts, and what is wrong with them, in sentences."""
    wrong: list[str] = []
    by_key: dict[str, dict[tuple[str, str], str]] = {}
    for (key, field, language), text in texts.items():
        if not LANGUAGE.fullmatch(language):
            wrong.append(f'"{language[:40]}" is no language. Write de or pt-BR, for example.')
        elif field not in FIELDS:
            wrong.append(f'"{field[:40]}" is no text of a badge. Write label or description.')
        elif len(text) > _LONGEST:
            wrong.append(f"{key} {field} in {language} is longer than {_LONGEST:,} characters.")
        else:
            by_key.setdefault(key, {})[field, language] = text.strip()
    made = {**document}
    for section in _SECTIONS:
        listed = [
            _translated(section, entry, by_key.pop(_key(entry)), wrong) if _key(entry) in by_key else entry
            for entry in document.get(section) or ()
        ]
        if listed:
            made[section] = listed
    wrong += [f"The catalog has no entry {key[:100]}." for key in by_key]
    return made, wrong


def exported(document: Document) -> dict[str, dict[str, dict[str, str]]]:
    """All translations: entry's key to language to field to text."""
    return {
        _key(entry): {name: dict(texts) for name, texts in entry["translations"].items()}
        for _, entry in _entries(document)
        if entry.get("translations")
    }


def differences(old: Document, new: Document) -> list[Difference]:
    """Every translated text in which two documents differ, by entry, language and field."""
    before, after = _texts_of(old), _texts_of(new)
    return [
        Difference(key, field, language, before.get((key, language, field), ""), after.get((key, language, field), ""))
        for key, language, field in sorted(before.keys() | after.keys())
        if before.get((key, language, field), "") != after.get((key, language, field), "")
    ]


def _texts_of(document: Document) -> dict[tuple[str, str, str], str]:
    return {
        (key, language, field): str(text)
        for key, by_language in exported(document).items()
        for language, texts in by_language.items()
        for field, text in texts.items()
    }


def imported(data: Any) -> tuple[dict[tuple[str, str, str], str], list[str]]:
    """What a file of `exported` says, and what is wrong with its form."""
    if not isinstance(data, Mapping):
        return {}, ["The file holds no object. Export one to see the form."]
    found: dict[tuple[str, str, str], str] = {}
    wrong = []
    for key, by_language in data.items():
        if not isinstance(by_language, Mapping):
            wrong.append(f"{key[:100]} holds no object of languages.")
            continue
        for language, texts in by_language.items():
            if not isinstance(texts, Mapping) or not all(isinstance(text, str) for text in texts.values()):
                wrong.append(f"{key[:100]} in {language[:40]} holds no object of texts.")
                continue
            found.update({(key, field, language): text for field, text in texts.items()})
    return found, wrong


def _translated(section: str, entry: Any, texts: Mapping[tuple[str, str], str], wrong: list[str]) -> dict[str, Any]:
    translations = {name: dict(found) for name, found in (entry.get("translations") or {}).items()}
    for (field, language), text in texts.items():
        source = str(entry.get(_NAMES.get(section, {}).get(field, field)) or "")
        strange = sorted(set(_PLACE.findall(text)) - set(_PLACE.findall(source)))
        if strange:
            wrong.append(f"{_key(entry)} {field} in {language}: the catalog's text has no {', '.join(strange)}.")
            continue
        if text:
            translations.setdefault(language, {})[field] = text
        else:
            translations.get(language, {}).pop(field, None)
    kept = {name: found for name, found in translations.items() if found}
    left = {name: value for name, value in entry.items() if name != "translations"}
    return {**left, "translations": kept} if kept else left


def _entries(document: Document) -> Iterable[tuple[str, Any]]:
    for section in _SECTIONS:
        for entry in document.get(section) or ():
            yield section, entry


def _key(entry: Any) -> str:
    return str(entry.get("key") or entry.get("code") or "")
