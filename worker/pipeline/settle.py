"""From what changed of users' awards to rows and messages: awards given, taken back, held back, each exactly once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from worker.events import json_text
from worker.exchange import Grant, Message, Revocation, Withheld
from worker.pipeline.messages import award_id, award_message, revoked_message
from worker.pipeline.protocols import Place, Transaction
from worker.rules.plan import Plan
from worker.rules.state import Award, Change, OrderKey, UserState, Withdrawal


async def grant(
    transaction: Transaction,
    plan: Plan,
    states: Mapping[str, UserState],
    granted: Sequence[tuple[Change, str]],
    *,
    topic: str,
    notify: bool | None = None,
) -> None:
    """Store changes of awards, each with its origin, and put their messages into the outbox; draws the sequences.

    `notify` says whether users are to be told, where that is not for the origin to say.
    """
    if [1 for one, _ in granted if type(one) is not Award or one.by_hand or one.held_back]:
        await _settle(transaction, plan, states, granted, topic=topic, notify=notify)
        return
    earlier = await transaction.grant_counts([(one.user_id, one.badge_key, one.context) for one, _ in granted])
    grants: list[Grant] = []
    for (award, origin), count in zip(granted, earlier, strict=True):
        assert isinstance(award, Award)  # noqa: S101 (all are plain)
        state = states[award.user_id]
        state.award_sequence += 1
        grants.append(
            make_grant(award, plan, origin=origin, sequence=state.award_sequence, earlier_grants=count, notify=notify)
        )
    await transaction.grant(grants, topic=topic)


def _place(change: Change) -> Place:
    return (change.user_id, change.badge_key, change.context)


@dataclass(slots=True)
class _Ledger:
    """What changes come to, taken one by one: what is held in the end, what is logged and said, what is withheld."""

    plan: Plan
    states: Mapping[str, UserState]
    grants: dict[Place, int]
    held: dict[Place, Grant]
    confirmed: AbstractSet[Place]
    notify: bool | None
    given: dict[Place, Grant] = field(default_factory=dict)
    entries: list[Grant | Revocation] = field(default_factory=list)
    withheld: dict[Place, Withheld] = field(default_factory=dict)

    def give(self, award: Award, origin: str) -> None:
        """An award, or one that is held back."""
        place = _place(award)
        if place in self.confirmed:
            return
        if award.held_back:
            self.withheld[place] = _held_back(award, self.plan, origin)
            return
        made = make_grant(
            award,
            self.plan,
            origin=origin,
            sequence=self._draw(award),
            earlier_grants=self.grants[place],
            notify=self.notify,
        )
        self.given[place] = made
        self.entries.append(made)
        self.withheld.pop(place, None)

    def take(self, withdrawal: Withdrawal, origin: str) -> None:
        """An award taken back, where it is held; by hand it is not given again either way."""
        place = _place(withdrawal)
        held = self.given.pop(place, None) or self.held.pop(place, None)
        if held is not None:
            count = self.grants[place]
            said = origin != "backfill" if self.notify is None else self.notify
            self.entries.append(_revocation(withdrawal, held, self.plan, origin, self._draw(withdrawal), count, said))
            self.grants[place] = count + 1
        if withdrawal.by_hand:
            self.withheld[place] = _stone(withdrawal, held, self.plan)

    def _draw(self, change: Change) -> int:
        state = self.states[change.user_id]
        state.award_sequence += 1
        return state.award_sequence


async def _settle(
    transaction: Transaction,
    plan: Plan,
    states: Mapping[str, UserState],
    changes: Sequence[tuple[Change, str]],
    *,
    topic: str,
    notify: bool | None,
) -> None:
    """Store changes that are not all awards earned.

    1 remove what is taken back from what is held; lift what was withheld and is given by hand; what is held already and
      is given by hand is a person's from now on, and nothing else happens to it
    2 go through the changes in order: an award given and taken back at once is logged and said, and not held
    3 store what is held in the end, the log of all of it, what is withheld; put the messages into the outbox
    """
    places = list(dict.fromkeys(_place(change) for change, _ in changes))
    counts = dict(zip(places, await transaction.grant_counts(places), strict=True))
    taken = [_place(change) for change, _ in changes if isinstance(change, Withdrawal)]
    held = await transaction.take_back(list(dict.fromkeys(taken)))
    by_hand = list(dict.fromkeys(_place(one) for one, _ in changes if isinstance(one, Award) and one.by_hand))
    await transaction.lift(by_hand)
    ledger = _Ledger(plan, states, counts, held, await transaction.confirm(by_hand), notify)
    for change, origin in changes:
        if isinstance(change, Award):
            ledger.give(change, origin)
        else:
            ledger.take(change, origin)
    await transaction.hold(list(ledger.given.values()))
    await transaction.note(ledger.entries)
    await transaction.withhold(list(ledger.withheld.values()))
    if ledger.entries:
        messages = [(one.user_id, Message(key=one.user_id.encode(), value=one.message)) for one in ledger.entries]
        await transaction.publish(topic, messages)


async def release(
    transaction: Transaction,
    plan: Plan,
    states: Mapping[str, UserState],
    lifted: Sequence[Withheld],
    *,
    topic: str,
    reason: str,
) -> None:
    """Give awards that were held back, of locked users: each since it was earned, with its origin; the log says why.

    The states are to be saved by the caller: then nobody goes on with what was in memory.
    """
    places = [(one.user_id, one.badge_key, one.context) for one in lifted]
    grants = []
    for one, count in zip(lifted, await transaction.grant_counts(places), strict=True):
        state = states[one.user_id]
        state.award_sequence += 1
        award = Award(
            *(one.user_id, one.badge_key, one.context, one.awarded_us, one.trigger_id, one.trigger_type, ""),
            metadata=json_text.loads(one.metadata_json),
        )
        grants.append(
            make_grant(
                award,
                plan,
                origin=one.origin,
                sequence=state.award_sequence,
                earlier_grants=count,
                catalog_version=one.catalog_version,
            )
        )
    await transaction.hold(grants)
    await transaction.note(grants, reason=reason)
    await transaction.publish(
        topic, [(one.user_id, Message(key=one.user_id.encode(), value=one.message)) for one in grants]
    )


def origin_of(change: Change, newest: OrderKey | None, *, fresh: AbstractSet[tuple[str, str]], behind: bool) -> str:
    """Where a change of an award came from, the first that fits (decisions 16).

    `newest` is the user's newest event before the batch, as far as it is known, `fresh` the (source, id) of the events
    that came with the batch or since the catalog changed, `behind` whether the user was folded again because it did.
    """
    if change.by_hand:
        return "manual"
    if change.trigger_type.startswith("cron."):
        return "cron"
    if behind and (change.trigger_source, change.trigger_id) not in fresh:
        return "backfill"
    at_us = change.awarded_us if isinstance(change, Award) else change.at_us
    if newest is None or (at_us, change.trigger_source, change.trigger_id) > newest:
        return "live"
    return "late"


def is_told(change: Change, origin: str, fresh: AbstractSet[tuple[str, str]]) -> bool:
    """Whether a user who is folded again is told of a change: what a person did, and what came of `fresh` events.

    What events of the past have earned is quiet, also where the clock had sent them.
    """
    return origin == "manual" or (change.trigger_source, change.trigger_id) in fresh


def make_grant(
    award: Award,
    plan: Plan,
    *,
    origin: str,
    sequence: int,
    earlier_grants: int,
    notify: bool | None = None,
    catalog_version: int | None = None,
) -> Grant:
    """The row and the message of one award; of the plan's version of the catalog, unless another one gave it."""
    version = plan.version if catalog_version is None else catalog_version
    metadata_json = json_text.dumps(award.metadata)
    message_id = award_id(award.user_id, award.badge_key, award.context, earlier_grants=earlier_grants)
    return Grant(
        user_id=award.user_id,
        badge_key=award.badge_key,
        context=award.context,
        awarded_us=award.awarded_us,
        source="manual" if award.by_hand else "auto",
        origin=origin,
        award_id=message_id,
        sequence=sequence,
        catalog_version=version,
        trigger_id=award.trigger_id,
        trigger_type=award.trigger_type,
        metadata_json=metadata_json,
        message=award_message(
            award,
            plan.badges[award.badge_key],
            metadata_json=metadata_json,
            message_id=message_id,
            origin=origin,
            notify=origin != "backfill" if notify is None else notify,
            sequence=sequence,
            catalog_version=version,
        ),
    )


def _revocation(
    withdrawal: Withdrawal, held: Grant, plan: Plan, origin: str, sequence: int, earlier_grants: int, notify: bool
) -> Revocation:
    """The log entry and the message of an award taken back."""
    user_id, badge_key, context = _place(withdrawal)
    return Revocation(
        user_id=user_id,
        sequence=sequence,
        badge_key=badge_key,
        context=context,
        awarded_us=held.awarded_us,
        source="manual" if withdrawal.by_hand else "auto",
        origin=origin,
        award_id=held.award_id,
        catalog_version=plan.version,
        trigger_id=withdrawal.trigger_id,
        trigger_type=withdrawal.trigger_type,
        metadata_json=held.metadata_json,
        reason=withdrawal.reason,
        message=revoked_message(
            withdrawal,
            plan.badges[badge_key],
            awarded_us=held.awarded_us,
            metadata_json=held.metadata_json,
            message_id=award_id(user_id, badge_key, context, earlier_grants=earlier_grants, kind="revoked"),
            award_id=held.award_id,
            origin=origin,
            notify=notify,
            sequence=sequence,
            catalog_version=plan.version,
        ),
    )


def _held_back(award: Award, plan: Plan, origin: str) -> Withheld:
    return Withheld(
        *_place(award),
        state="held",
        awarded_us=award.awarded_us,
        source="auto",
        origin=origin,
        catalog_version=plan.version,
        trigger_id=award.trigger_id,
        trigger_type=award.trigger_type,
        metadata_json=json_text.dumps(award.metadata),
        reason="More were awarded than is usual.",
    )


def _stone(withdrawal: Withdrawal, held: Grant | None, plan: Plan) -> Withheld:
    """What stays of an award that a person took: it is not given again."""
    return Withheld(
        *_place(withdrawal),
        state="revoked",
        awarded_us=withdrawal.at_us if held is None else held.awarded_us,
        source="manual" if held is None else held.source,
        origin="manual" if held is None else held.origin,
        catalog_version=plan.version,
        trigger_id=withdrawal.trigger_id,
        trigger_type=withdrawal.trigger_type,
        metadata_json="{}" if held is None else held.metadata_json,
        reason=withdrawal.reason,
    )
