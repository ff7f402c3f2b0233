"""What a transaction in memory gives and takes besides what criteria earn; and how it changes a table and undoes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from msgspec.structs import replace

from worker.errors import PoisonBatch, TransientError
from worker.exchange import Grant, Revocation, Span, Withheld
from worker.rules.state import Holdings
from worker.store.blobs import storable
from worker.store.memory_tables import Holder, Tables

Place = tuple[str, str, str]


class MemoryWithheld(Holder):
    """The part of a transaction that knows of awards taken back and withheld; see `pipeline.protocols.Transaction`."""

    def __init__(self, tables: Tables, *, now: float) -> None:
        super().__init__()
        self._tables = tables
        self._now = now
        self._failed = False
        self._locked: set[str] = set()
        self._partition = ("", 0)
        self._undo: list[Callable[[], object]] = []

    async def holdings_of(self, user_id: str) -> Holdings:
        """All that is stored of a user's awards."""
        with self._statement():
            self._must_hold(user_id)
            return holdings_in(self._tables, user_id)

    async def hold(self, grants: Sequence[Grant]) -> None:
        """Store awards."""
        with self._statement():
            for grant in grants:
                self._hold(grant)

    async def confirm(self, awards: Sequence[Place]) -> set[Place]:
        """Of these awards those that are held, as given by a person from now on."""
        found = set()
        with self._statement():
            for user_id, badge_key, context in awards:
                held = self._tables.user_badges.get(user_id, {})
                if (grant := held.get((badge_key, context))) is not None:
                    self._set(held, (badge_key, context), replace(grant, source="manual"))
                    found.add((user_id, badge_key, context))
        return found

    async def note(self, entries: Sequence[Grant | Revocation], *, reason: str | None = None) -> None:
        """Write entries to the log of awards alone."""
        with self._statement():
            check_text(reason or "")
            for entry in entries:
                self._write(entry)

    def _hold(self, grant: Grant) -> None:
        for text in (grant.user_id, grant.badge_key, grant.context, grant.trigger_id, grant.metadata_json):
            check_text(text)
        held = self._tables.user_badges.setdefault(grant.user_id, {})
        if (grant.badge_key, grant.context) in held:
            raise PoisonBatch("an award is there already (user_badges_pkey)")
        self._set(held, (grant.badge_key, grant.context), grant)

    def _write(self, entry: Grant | Revocation) -> None:
        self._tables.awards_log.append(entry)
        self._undo.append(self._tables.awards_log.pop)
        if isinstance(entry, Revocation):
            self._tables.revoked.append((entry.user_id, entry.badge_key, entry.context))
            self._undo.append(self._tables.revoked.pop)

    async def take_back(self, awards: Sequence[Place]) -> dict[Place, Grant]:
        """Remove awards from what is held."""
        found = {}
        with self._statement():
            for user_id, badge_key, context in awards:
                self._must_hold(user_id)
                held = self._tables.user_badges.get(user_id, {})
                if (grant := held.get((badge_key, context))) is not None:
                    self._remove(held, (badge_key, context))
                    found[user_id, badge_key, context] = replace(grant, message=b"")
        return found

    async def withhold(self, awards: Sequence[Withheld]) -> None:
        """Withhold awards; of what is withheld already, state and reason change."""
        with self._statement():
            for award in awards:
                self._must_hold(award.user_id)
                place = (award.user_id, award.badge_key, award.context)
                old = self._tables.withheld.get(place)
                row = award if old is None else replace(old[0], state=award.state, reason=award.reason)
                self._set(self._tables.withheld, place, (row, self._now))

    async def lift(self, awards: Sequence[Place], state: str | None = None) -> list[Withheld]:
        """Withhold awards no longer."""
        found = []
        with self._statement():
            for place in awards:
                self._must_hold(place[0])
                row = self._tables.withheld.get(place)
                if row is not None and state in (None, row[0].state):
                    self._remove(self._tables.withheld, place)
                    found.append(row[0])
        return found

    async def tallied(self, spans: Collection[Span]) -> dict[Span, dict[str, int]]:
        """How many awards of each badge were counted in each span."""
        found: dict[Span, Counter[str]] = {span: Counter() for span in spans}
        with self._statement():
            for (minute, badge_key, *_), awards in self._tables.tallies.items():
                for (after, until), counted in found.items():
                    if after < minute <= until:
                        counted[badge_key] += awards
        return {span: dict(counted) for span, counted in found.items()}

    async def tally(self, counted: Sequence[tuple[str, int, int]]) -> None:
        """Count awards for the partition that was fenced."""
        with self._statement():
            for badge_key, minute, awards in counted:
                place = (minute, badge_key, *self._partition)
                self._set(self._tables.tallies, place, self._tables.tallies.get(place, 0) + awards)

    async def forget_tallies(self, before_us: int) -> None:
        """Remove what the partition that was fenced counted before a minute."""
        with self._statement():
            for place in [*self._tables.tallies]:
                if place[0] < before_us and place[2:] == self._partition:
                    self._remove(self._tables.tallies, place)

    async def usual(self) -> dict[str, float]:
        """How many awards a day are usual for each badge."""
        with self._statement():
            return {**self._tables.usual}

    # ---- how a table is changed -------------------------------------------------------------------------------------

    @contextmanager
    def _statement(self) -> Iterator[None]:
        """After a refused statement the transaction takes no other."""
        if self._failed:
            raise TransientError("the transaction is refused: a statement in it had failed")
        try:
            yield
        except (PoisonBatch, TransientError):
            self._failed = True
            raise

    def _set(self, table: dict[Any, Any], key: Any, value: Any) -> None:
        if key in table:
            old = table[key]
            self._undo.append(lambda: table.__setitem__(key, old))
        else:
            self._undo.append(lambda: table.pop(key))
        table[key] = value

    def _remove(self, table: dict[Any, Any], key: Any) -> None:
        if key in table:
            old = table.pop(key)
            self._undo.append(lambda: table.__setitem__(key, old))

    def _must_hold(self, user_id: str) -> None:
        if user_id not in self._locked:
            raise RuntimeError("a user's state was touched without `lock`")


def check_text(text: str) -> None:
    """Refuse what PostgreSQL would."""
    if storable(text) != text:
        raise PoisonBatch("a text holds what PostgreSQL cannot store")


def holdings_in(tables: Tables, user_id: str) -> Holdings:
    """All that is stored of one user's awards."""
    grants = tables.user_badges.get(user_id, {})
    log = [entry for entry in tables.awards_log if entry.user_id == user_id]
    taken = {(e.badge_key, e.context) for e in log if isinstance(e, Revocation) and e.source == "manual"}
    given = [entry for entry in log if isinstance(entry, Grant)]
    first = {(e.badge_key, e.context): (e.awarded_us, e.trigger_id) for e in reversed(given)}
    return Holdings(
        held={key: (grant.awarded_us, grant.trigger_id) for key, grant in grants.items()},
        by_hand=frozenset(key for key, grant in grants.items() if grant.source == "manual"),
        withheld={
            (key, context): row.state for (of, key, context), (row, _) in tables.withheld.items() if of == user_id
        },
        first={key: found for key, found in first.items() if key in taken},
        barred=frozenset(
            (key, context)
            for (of, key, context), (row, _) in tables.withheld.items()
            if of == user_id and row.state == "revoked" and row.trigger_type != "grant.revoked"
        ),
    )
