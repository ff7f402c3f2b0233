"""What a catalog is once it was read and found clean: event dictionary, metrics, badges; all of it frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from worker.events import Dictionary
from worker.rules.ir import Fold, Node

Status = Literal["draft", "active", "hidden", "locked", "deprecated"]


class Metric(msgspec.Struct, frozen=True):
    """A named figure per user (or per payload value): the fold that keeps it and the fact to read.

    `instant` is true where the fact is a point in time (`first`, `last`).
    """

    name: str
    fold: Fold
    fact: str
    instant: bool = False


class Condition(msgspec.Struct, frozen=True):
    """A condition type with the params of one use, asked by its hash; `source` is JavaScript, `params` JSON text."""

    hash: str
    name: str
    source: str
    params: str


class Badge(msgspec.Struct, frozen=True):
    """One badge, however it was authored. `flow` is what the author wrote (JSON), `path` the pointer to its entry.

    `triggers` are canonical event types ("*" stands for every event the flow's "all events" takes). `tier` is 1-based
    for ladders, else None. `ever` is true for milestones: a dry run answers "achieved at some trigger up to then".
    """

    key: str
    formula: Node
    triggers: frozenset[str]
    family: str = "misc"
    label: str = ""
    description: str = ""
    icon: str | None = None
    color: str | None = None
    image_url: str | None = None
    sort_score: int = 0
    tier: int | None = None
    per: str | None = None
    status: Status = "active"
    revocable: str = "never"
    animation: Mapping[str, Any] | None = None
    breaker: Mapping[str, Any] | str | None = None
    translations: Mapping[str, Mapping[str, str]] = {}
    kind: Literal["badge", "ladder", "tenure", "milestone"] = "badge"
    ever: bool = False
    flow: Any = None
    path: str = ""


@dataclass(frozen=True, slots=True)
class Catalog:
    """A clean catalog. `document` is the merged document as JSON data, `options` the sections later rooms read.

    `conditions` are those its flows ask for, by hash.
    `basis` is the version whose memories and tests this one still uses; None means its own.
    """

    dictionary: Dictionary
    metrics: Mapping[str, Metric]
    badges: tuple[Badge, ...]
    timezone: str = "UTC"
    feb_29: Literal["feb_28", "mar_1"] = "feb_28"
    holidays: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    document: Mapping[str, Any] = field(default_factory=dict)
    version: int = 0
    basis: int | None = None
