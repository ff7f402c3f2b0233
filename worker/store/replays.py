"""Keeps how far a replay is, in partition rows of a group of its own: the live group's rows are never touched."""

from __future__ import annotations

from collections.abc import Mapping

from worker.store.session import Database


class ReplayTable(Database):
    """The positions of replays."""

    async def begin_replay(
        self, replay: str, starts: Mapping[tuple[str, int], int], *, group_id: str
    ) -> dict[tuple[str, int], int]:
        """Note where a replay starts, unless that is noted: it was begun before and goes on from where it stopped.

        Returns the next offset of each (topic, partition). `group_id` is the group whose topics are read again.
        """
        places = [*zip(*((topic, number, start) for (topic, number), start in starts.items()), strict=True)]
        if not places:
            return {}
        async with self.work() as session:
            await session.execute("begin_replay", replay, group_id, *map(list, places))
            found = await session.rows("replay_positions", replay)
        return {(row["topic"], row["partition"]): row["next_offset"] for row in found}

    async def end_replay(self, replay: str) -> None:
        """Forget a replay that is done."""
        async with self.work() as session:
            await session.execute("end_replay", replay)
            await session.execute("forget_replay_gaps", replay)
