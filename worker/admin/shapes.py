"""What the catalog's entries look like in requests and answers, as OpenAPI tells it."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

Status = Literal["draft", "active", "hidden", "locked", "deprecated"]
JsonObject = dict[str, Any]

_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,199}$"
_METRIC: Final = r"^[A-Za-z_][A-Za-z0-9_.-]{0,99}$"
_KEY: Final = r"^[a-z0-9][a-z0-9_.-]{0,99}$"

FLOW: Final[JsonObject] = {"event": "simple_event", "criteria": {"value": {"$gte": 50}}}
EVENT_TYPE: Final[JsonObject] = {
    "name": "simple_event",
    "description": "Simple test event",
    "schema": {"type": "object", "properties": {"value": {"type": "number"}}},
}
BADGE: Final[JsonObject] = {
    "name": "Simple Badge",
    "description": "Simple test badge",
    "image_url": "https://example.com/badge.png",
    "flow_definition": FLOW,
    "is_active": True,
}
CONDITION_TYPE: Final[JsonObject] = {
    "name": "big_order",
    "description": "An order above a sum.",
    "source": "(event, params) => event.payload.total > params.min",
    "params": {"type": "object", "properties": {"min": {"type": "number"}}},
}


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class EventTypeChange(_Body):
    """Keys of an event type; null takes one away."""

    description: str | None = Field(None, max_length=2_000)
    schema_: JsonObject | None = Field(None, alias="schema", description="A JSON Schema of the payload")
    aliases: list[str] | None = Field(None, max_length=1_000, description="Other names producers and flows may use")
    login: bool | None = Field(None, description="Whether this is a login")
    noun: str | JsonObject | None = Field(None, description="The word for sentences, {one, other}")


class EventTypeIn(EventTypeChange):
    """An event type."""

    name: str = Field(pattern=_NAME, description="noun.verb; other spellings are taken")


class EventTypePut(EventTypeChange):
    """An event type as it shall be; its name stays as it is."""

    name: str | None = Field(None, pattern=_NAME)


class EventTypeOut(BaseModel):
    """An event type of the dictionary."""

    id: int
    name: str
    description: str
    schema_: JsonObject = Field(alias="schema")
    aliases: list[str]
    login: bool
    builtin: bool
    created_at: str
    updated_at: str


class BadgeChange(_Body):
    """Keys of a badge, as here or as the catalog names them; in a PATCH null takes one away."""

    model_config = ConfigDict(extra="allow")

    name: str | None = Field(None, min_length=1, max_length=200)
    description: str | None = Field(None, max_length=2_000)
    image_url: str | None = Field(None, max_length=2_000, description="An image, at an https address")
    flow_definition: JsonObject | None = Field(None, description="The test: an event with criteria, or one operator")
    is_active: bool | None = Field(None, description="false: deprecated, or a draft where it never was active")
    active: bool | None = Field(None, description="The same as is_active")
    status: Status | None = None
    family: str | None = Field(None, min_length=1, max_length=100)
    icon: str | None = Field(None, min_length=1, max_length=200)
    color: str | None = Field(None, pattern="^#[0-9a-fA-F]{6}$")
    sort_score: int | None = Field(None, ge=-(2**31), le=2**31 - 1)
    triggers: list[str] | None = None
    per: str | None = Field(None, min_length=1, max_length=200)
    revocable: Literal["never", "manual", "auto"] | None = None
    animation: JsonObject | None = None
    breaker: Literal["off"] | JsonObject | None = None
    translations: dict[str, JsonObject] | None = None


class BadgeIn(BadgeChange):
    """A badge to be made."""

    name: str = Field(min_length=1, max_length=200)
    key: str | None = Field(None, pattern=_KEY, description="Without one it is made from the name")
    flow_definition: JsonObject = Field(min_length=1)


class BadgeCore(BaseModel):
    """A badge as the older system prints it, and its key and status."""

    id: int
    key: str
    name: str
    description: str
    image_url: str | None
    active: bool
    status: Status
    created_at: str
    updated_at: str


class Criteria(BaseModel):
    """What a badge asks; `flow_definition` is as it was sent."""

    id: int
    badge_id: int
    flow_definition: JsonObject
    created_at: str
    updated_at: str


class BadgeWithCriteria(BaseModel):
    """A badge and what it asks."""

    badge: BadgeCore
    criteria: Criteria


class ChangeWarning(BaseModel):
    """What an author may not have meant; the change is made."""

    code: Literal["changed_in_place"]
    path: str
    message: str


class BadgeChanged(BadgeWithCriteria):
    """A badge and what it asks now."""

    warnings: list[ChangeWarning] = Field([], description="There where awards of the old test stay")


class BadgeOut(BadgeCore):
    """A badge, flat, with how many hold it and how many of the active users do, 0 to 1 (null: not counted)."""

    kind: Literal["badge", "ladder", "tenure", "milestone"]
    family: str
    tier: int | None
    icon: str | None
    color: str | None
    sort_score: int
    per: str | None
    triggers: list[str]
    takes: str
    animation: JsonObject | None
    holders: int
    share: float | None


class ConditionTypeChange(_Body):
    """Keys of a condition type; null takes one away."""

    description: str | None = Field(None, max_length=2_000)
    source: str | None = Field(None, min_length=1, max_length=65_536, description="JavaScript: (event, params) => …")
    params: JsonObject | None = Field(None, description="A JSON Schema of its parameters")


class ConditionTypeIn(ConditionTypeChange):
    """A condition type."""

    name: str = Field(pattern=_METRIC)
    source: str = Field(min_length=1, max_length=65_536)


class ConditionTypePut(ConditionTypeChange):
    """A condition type as it shall be; its name stays as it is."""

    name: str | None = Field(None, pattern=_METRIC)
    source: str = Field(min_length=1, max_length=65_536)


class ConditionTypeOut(BaseModel):
    """A condition of the author's own, in JavaScript."""

    id: int
    name: str
    description: str
    source: str
    params: JsonObject
    created_at: str
    updated_at: str
