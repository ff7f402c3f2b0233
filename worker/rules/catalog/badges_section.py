"""The sections `badges`, `ladders`, `tenures` and `milestones` to badges, however each was authored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from worker.errors import Fault
from worker.rules.catalog.definitions import Badge
from worker.rules.catalog.generators import Step, labelled, ladder_steps, tenure_steps, worded
from worker.rules.catalog.names import CatalogNames
from worker.rules.catalog.sections import KEY
from worker.rules.ir import Node, leaves
from worker.rules.normalize import triggers as derived
from worker.rules.operators.tenure import tenure_test
from worker.rules.parse import parse_flow, parse_milestone

Entry = Mapping[str, Any]

_DISPLAY = frozenset({"family", "label", "description", "icon", "color", "image_url", "status", "revocable"})


@dataclass(frozen=True, slots=True)
class Planned:
    """A badge whose criterion is still to be read, with its key (None: faulty) and where that stands."""

    key: str | None
    path: str
    read: Callable[[], Badge | None]


class BadgeReader:
    """Reads the four sections in two passes: all keys first, since criteria may name any badge of the catalog."""

    def __init__(self, names: CatalogNames, *, feb_29: str) -> None:
        self._names = names
        self._faults = names.faults
        self._feb_29 = feb_29

    def read(self, data: Entry) -> list[Badge]:
        """All badges that could be read, in the order written; where a key stands twice, so do its badges."""
        keys: dict[str, str] = {}
        planned = list(self._plan(data))
        for plan in planned:
            if plan.key is not None and keys.setdefault(plan.key, plan.path) != plan.path:
                message = f'"{plan.key}" is the key of another badge already, at {keys[plan.key]}.'
                self._faults.append(Fault("duplicate_key", plan.path, message, "Choose another key."))
        self._names.badges = keys.keys()
        return [badge for plan in planned if (badge := plan.read()) is not None]

    def _plan(self, data: Entry) -> Iterator[Planned]:
        for entry, path in _entries(data, "badges"):
            yield Planned(_key(entry, "key"), f"{path}/key", lambda e=entry, p=path: self._badge(e, p))  # type: ignore[misc]
        for entry, path in _entries(data, "ladders"):
            steps = list(ladder_steps(entry, path, self._faults))
            if not steps:
                self._metric_of(entry, path)
            for step in steps:
                yield Planned(step.key, step.path, lambda e=entry, p=path, s=step: self._ladder(e, p, s))  # type: ignore[misc]
        for entry, path in _entries(data, "tenures"):
            since = entry.get("since")
            kind = self._names.event_type(since, f"{path}/since") if isinstance(since, str) and since else None
            for step in tenure_steps(entry, path, self._faults):
                yield Planned(step.key, step.path, lambda e=entry, p=path, s=step, k=kind: self._tenure(e, p, s, k))  # type: ignore[misc]
        for entry, path in _entries(data, "milestones"):
            yield Planned(_key(entry, "code"), f"{path}/code", lambda e=entry, p=path: self._milestone(e, p))  # type: ignore[misc]

    def _badge(self, entry: Entry, path: str) -> Badge | None:
        names = self._names
        per = entry.get("per")
        names.per = per if isinstance(per, str) and per else None
        if "flow" not in entry:
            self._faults.append(
                Fault("no_test", path, "This badge has no flow, so nobody can earn it.",
                      "Add flow: {event: comment.posted}, for example.")
            )  # fmt: skip
            return None
        flow = entry["flow"]
        formula = parse_flow(flow, path=f"{path}/flow", names=names)
        if formula is None:
            return None
        if names.per is not None:
            self._declared(formula, names.per, f"{path}/per")
        return _made(entry, path, key=_key(entry, "key") or "", formula=formula, flow=flow, per=names.per)

    def _declared(self, formula: Node, per: str, path: str) -> None:
        """Every event type of the flow must declare the field that gives the context (decisions 11)."""
        for test in leaves(formula):
            types = dict(test.fold.params).get("sequence", test.fold.match.types)
            if test.fold.per == per and types:
                self._names.field(types, per, path)

    def _metric_of(self, entry: Entry, path: str) -> None:
        name = entry.get("metric")
        if isinstance(name, str):
            self._names.metric(name, f"{path}/metric")

    def _ladder(self, entry: Entry, path: str, step: Step) -> Badge | None:
        names = self._names
        name = entry.get("metric")
        if not isinstance(name, str):
            return None
        if step.index and name not in names.metrics:
            return None
        metric = names.metric(name, f"{path}/metric")
        if metric is None:
            return None
        if metric.instant:
            if step.index == 0:
                message = f'The metric "{name}" is a point in time, not a count.'
                self._faults.append(Fault("bad_operand", f"{path}/metric", message, "Name a counted metric."))
            return None
        names.per = metric.fold.per
        flow = {"snapshot": {name: {"$gte": step.figure}}}
        formula = parse_flow(flow, path=step.path, names=names)
        if formula is None:
            return None
        return _made(
            entry, path, key=step.key, formula=formula, flow=flow, per=names.per, kind="ladder", step=step, tiered=True
        )

    def _tenure(self, entry: Entry, path: str, step: Step, event_type: str | None) -> Badge | None:
        if event_type is None:
            return None
        formula = tenure_test(event_type, int(step.figure), path=step.path, feb_29=self._feb_29)
        return _made(
            entry, path, key=step.key, formula=formula, flow={"tenure": {"since": event_type, "years": step.figure}},
            kind="tenure", step=step, triggers=frozenset({"cron.anniversary"}),
        )  # fmt: skip

    def _milestone(self, entry: Entry, path: str) -> Badge | None:
        self._names.per = None
        if "is_active" in entry and "status" in entry:
            message = "is_active and status say the same thing twice."
            self._faults.append(Fault("bad_operand", f"{path}/is_active", message, "Delete one of the two."))
        parsed = parse_milestone(entry, path=path, names=self._names)
        if parsed is None:
            return None
        formula, trigger = parsed
        flow = {
            "milestone": {name: entry[name] for name in ("trigger_event", "rule_type", "rule_data") if name in entry}
        }
        return _made(
            entry, path, key=_key(entry, "code") or "", formula=formula, flow=flow, kind="milestone",
            triggers=frozenset({trigger}),
        )  # fmt: skip


def _made(
    entry: Entry,
    path: str,
    *,
    key: str,
    formula: Node,
    flow: Any,
    per: str | None = None,
    kind: Any = "badge",
    step: Step | None = None,
    tiered: bool = False,
    triggers: frozenset[str] | None = None,
) -> Badge:
    """The badge with its display keys; texts of a step have level and tier filled in."""
    given: dict[str, Any] = {
        name: value for name, value in entry.items() if name in _DISPLAY and isinstance(value, str)
    }
    if kind == "milestone":
        given["label"] = entry["title"] if isinstance(entry.get("title"), str) else key
        if entry.get("is_active") is False:
            given["status"] = "deprecated"
    elif "label" not in given:
        given["label"] = _label(str(entry.get("key", key)))
    translations = _translations(entry.get("translations"))
    if step is not None:
        given = _filled(given, step, tiered=tiered)
        translations = {language: _filled(words, step, tiered=tiered) for language, words in translations.items()}
    score = entry.get("sort_score", 0)
    animation, breaker = entry.get("animation"), entry.get("breaker")
    return Badge(
        key=key,
        formula=formula,
        triggers=derived(formula) if triggers is None else triggers,
        sort_score=(int(score) if not isinstance(score, str | list | dict | None) else 0) + (step.index if step else 0),
        tier=step.index + 1 if step is not None and tiered else None,
        per=per,
        animation=animation if isinstance(animation, Mapping) else None,
        breaker=breaker if isinstance(breaker, str | Mapping) else None,
        translations=translations,
        kind=kind,
        ever=kind == "milestone",
        flow=flow,
        path=path,
        **given,
    )


def _filled(words: Mapping[str, str], step: Step, *, tiered: bool) -> dict[str, str]:
    return {
        name: labelled(text, step) if tiered and name == "label" else worded(text, step)
        if name in ("label", "description")
        else text
        for name, text in words.items()
    }  # fmt: skip


def _translations(value: Any) -> dict[str, dict[str, str]]:
    """Language to label and description; a milestone's `title` is its label."""
    found: dict[str, dict[str, str]] = {}
    for language, words in value.items() if isinstance(value, Mapping) else ():
        if isinstance(words, Mapping):
            texts = {
                "label" if name == "title" else name: text for name, text in words.items() if isinstance(text, str)
            }
            found[language] = texts
    return found


def _label(key: str) -> str:
    """A label from a key: `nice_question` gives Nice question."""
    words = key.replace("_", " ").replace(".", " ").replace("-", " ").strip()
    return words[:1].upper() + words[1:]


def _key(entry: Entry, name: str) -> str | None:
    value = entry.get(name)
    return value if isinstance(value, str) and KEY.fullmatch(value) is not None else None


def _entries(data: Entry, section: str) -> Iterator[tuple[Entry, str]]:
    listed = data.get(section)
    for index, entry in enumerate(listed if isinstance(listed, list) else ()):
        if isinstance(entry, Mapping):
            yield entry, f"/{section}/{index}"
