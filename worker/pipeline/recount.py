"""One user's log held against what is stored of the user: memory that is missing or differs, awards that should be.

Theory of operation. What is stored is a checkpoint: it must equal the fold of the log up to its newest event, and every
award that the log earns must be held, or be withheld, or have been taken back; what falls by itself must be held as
the log says. The log is folded once more, from the beginning and with what is held, as users are rebuilt; when it has
come to the checkpoint's newest event, memory is compared. Beside it a second fold, which knows of no award that was
earned, says which of those the log still shows.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from worker.events import Event
from worker.exchange import Standing
from worker.pipeline.scope import Scope
from worker.rules.changes import Refold
from worker.rules.plan import Plan, mark_of
from worker.rules.state import AwardKey, Change, Holdings, UserState, Withdrawal

FOLD_MISSING: Final = "fold_missing"
FOLD_OTHER: Final = "fold_other"
AWARD_MISSING: Final = "award_missing"
AWARD_NEVER_GIVEN: Final = "award_never_given"
AWARD_NOT_TAKEN_BACK: Final = "award_not_taken_back"
AWARD_NOT_IN_LOG: Final = "award_not_in_log"
#: What a recount may find, in the order in which it is told. The last is only told, never repaired: criteria may have
#: been easier once, and late events may take away what was earned before they came (decisions 20).
KINDS: Final = (FOLD_MISSING, FOLD_OTHER, AWARD_MISSING, AWARD_NEVER_GIVEN, AWARD_NOT_TAKEN_BACK, AWARD_NOT_IN_LOG)

Memory = dict[str, dict[str, Any]]


@dataclass(slots=True)
class Finding:
    """What a user needs: `restore` are awards of the log of awards, by key; `changes` were never given or taken back.

    `state` is what is to be stored (None: what is there is right), `whole` whether all of it is new.
    """

    user_id: str
    whole: bool
    behind: bool
    state: UserState | None = None
    restore: list[AwardKey] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    events: int = 0

    @property
    def needs_work(self) -> bool:
        """Whether anything is to be written."""
        return bool(self.state is not None or self.restore or self.changes)


class Recount:
    """Takes a user's log, event by event and in order; `end` says what was found."""

    def __init__(
        self, plan: Plan, scope: Scope, user_id: str, stored: UserState | None, memory: Memory, standing: Standing
    ) -> None:
        """`stored` is the user's row (None: there is none), `memory` that of all other scopes."""
        self.plan = plan
        self.scope = scope
        self.standing = standing
        self.behind = stored is not None and stored.built_version not in (None, plan.basis)
        self.missing = stored is None or stored.built_version is None
        self._stored = stored
        self._memory = {**memory, "": {} if stored is None else stored.scopes.get("", {})}
        self._events = 0
        self._snapshot: Memory | None = None
        held = {**standing.held, **standing.lost}
        known = Holdings(
            held, frozenset(standing.by_hand), standing.withheld, standing.first, frozenset(standing.barred)
        )
        self._refold = Refold(plan, user_id, known, kept=scope.sealed)
        self._state = self._refold.state
        self._doubted = self._to_doubt()
        self._bare: Refold | None = None
        if self._doubted:
            rest = {key: found for key, found in held.items() if key not in self._doubted}
            self._bare = Refold(plan, user_id, Holdings(rest, known.by_hand), kept=scope.sealed)

    def _to_doubt(self) -> set[AwardKey]:
        """The awards of which the log must show that they were earned."""
        scope, numbers = self.scope, self.plan.numbers
        if scope.folds is None:
            return set()
        return {
            key
            for key in self.standing.held.keys() - self.standing.by_hand
            if scope.about(key[0]) and key[0] in numbers and key[0] not in scope.sealed | self.plan.falling
        }

    def take(self, event: Event) -> None:
        """The next event."""
        plan, state = self.plan, self._state
        self._events += 1
        if self._snapshot is None and self._stored is not None and not self.missing and not self.behind:
            newest = self._stored.newest
            if newest is None or event.order > newest:
                self._snapshot = {name: {**folds} for name, folds in state.scopes.items()}
        if plan.zones is not None:
            # Where another zone leaves nothing to remember, what was remembered is still written there.
            for name in plan.scopes(event):
                if state.scopes.setdefault(name, {}) == {}:
                    state.touch(name)
        self._refold.take(event)
        if self._bare is not None:
            self._bare.take(event)

    def end(self) -> Finding:
        """What was found, once the whole log was taken."""
        finding = Finding(self._state.user_id, self.missing or self.behind, self.behind, events=self._events)
        if self.missing and not self._events and not self.standing.held and not self.standing.lost:
            finding.whole = False
            return finding
        changes = self._refold.changes()
        self._compare(finding)
        scope, standing = self.scope, self.standing
        finding.restore = sorted(key for key in standing.lost if scope.about(key[0]))
        if finding.restore:
            finding.kinds[AWARD_MISSING] = len(finding.restore)
        # who is behind the catalog is built for it here, as the build would: with all that was earned
        finding.changes = [change for change in changes if self._is_due(change, everything=finding.whole)]
        if not self.behind:
            taken = sum(isinstance(change, Withdrawal) for change in finding.changes)
            finding.kinds += Counter({AWARD_NOT_TAKEN_BACK: taken, AWARD_NEVER_GIVEN: len(finding.changes) - taken})
        if self._bare is not None:
            finding.kinds[AWARD_NOT_IN_LOG] = sum(key not in self._bare.state.held for key in self._doubted)
        self._mark(finding)
        return finding

    def _is_due(self, change: Change, *, everything: bool) -> bool:
        if change.badge_key in self.scope.sealed and not change.by_hand:
            return False
        return everything or self.scope.about(change.badge_key)

    def _compare(self, finding: Finding) -> None:
        """Hold memory against the recount at the checkpoint; what differs goes into the state to be stored."""
        if finding.whole or self._stored is None:
            finding.state = self._state
            finding.state.award_sequence = 0 if self._stored is None else self._stored.award_sequence
            finding.state.built_version = self.plan.basis
            finding.state.scopes.setdefault("", {})
            finding.state.touch("")
            if self.missing:
                finding.kinds[FOLD_MISSING] += 1
            self._keep_closed(finding.state)
            return
        if self.scope.folds is None:
            return
        counted = self._state.scopes if self._snapshot is None else self._with_marks(self._snapshot)
        for name in sorted({*counted, *self._memory}):
            before, after = self._memory.get(name, {}), counted.get(name, {})
            wrong = self._differences(before, after)
            if not wrong:
                continue
            finding.kinds[FOLD_OTHER if self._remembered(before) else FOLD_MISSING] += 1
            finding.state = self._stored
            merged = {**before}
            for fold_id in wrong:
                if fold_id in after:
                    merged[fold_id] = after[fold_id]
                else:
                    merged.pop(fold_id, None)
            self._stored.scopes[name] = merged
            self._stored.touch(name)

    def _with_marks(self, counted: Memory) -> Memory:
        """The memory at the checkpoint with the marks of what falls as what is held leaves them.

        The log shows when it would have been given, which may be earlier than it was.
        """
        own, standing = {**counted.get("", {})}, self.standing
        for badge_key in self.plan.marked & self.plan.falling:
            own.pop(mark_of(badge_key), None)
            since = [at for (key, _), (at, _) in {**standing.held, **standing.lost}.items() if key == badge_key]
            if since:
                own[mark_of(badge_key)] = min(since)
        return {**counted, "": own}

    def _differences(self, before: dict[str, Any], after: dict[str, Any]) -> list[str]:
        scope = self.scope
        ids = [fold_id for fold_id in before if fold_id in scope.known] + [one for one in after if one not in before]
        return [one for one in ids if scope.compares(one) and not _same(before.get(one), after.get(one))]

    def _remembered(self, before: dict[str, Any]) -> bool:
        return not self.scope.known.isdisjoint(before)

    def _keep_closed(self, state: UserState) -> None:
        """What the log no longer shows is kept as it was stored."""
        for name, folds in self._memory.items():
            kept = {fold_id: folds[fold_id] for fold_id in self.scope.closed.intersection(folds)}
            if kept:
                state.scopes[name] = {**state.scopes.get(name, {}), **kept}
                state.touch(name)

    def _mark(self, finding: Finding) -> None:
        """Carry the marks that awards leave into the state that is stored, as giving and taking them would have."""
        marked = {change.badge_key for change in finding.changes if change.badge_key in self.plan.marked}
        stored = self._stored
        if not marked or stored is None or finding.whole:
            return
        own = self._state.scopes.get("", {})
        marks = [mark_of(key) for key in marked]
        kept = {fold_id: value for fold_id, value in stored.scopes.get("", {}).items() if fold_id not in marks}
        stored.scopes[""] = {**kept, **{mark: own[mark] for mark in marks if mark in own}}
        stored.touch("")
        finding.state = stored


def _same(one: Any, other: Any) -> bool:
    """Whether two memories are one, whether or not they were written and read meanwhile."""
    return bool(one == other or _plain(one) == _plain(other))


def _plain(value: Any) -> Any:
    match value:
        case list() | tuple():
            return [_plain(child) for child in value]
        case dict():
            return {key: _plain(child) for key, child in value.items()}
    return value
