"""The scenario `community`: the demo's real events under its catalog, once for each of as many towns as asked for."""

from __future__ import annotations

import gzip
import json
from importlib.resources import files
from typing import Any, Final

import yaml

from worker.bench.brute import Award
from worker.bench.streams import Record, Stream
from worker.events import parse_instant

#: Data only: the demo's code is no business of the bench.
_DATA: Final = files("worker.demo")
_USER: Final = b'"user_id":"'


def community(size: int) -> Stream:
    """At least `size` events, whole towns of them: each town has the same history under names of its own.

    The awards are those of the demo's own list, which brute force over each user's history gave.
    """
    lines = gzip.decompress(_DATA.joinpath("events.jsonl.gz").read_bytes()).splitlines()
    told = [(json.loads(line)["user_id"], line) for line in lines if line]
    towns = max(1, -(-size // len(told)))
    records = [_moved(user, line, town) for user, line in told for town in range(towns)]
    expected: set[Award] = set()
    for award in map(json.loads, _DATA.joinpath("expected.jsonl").read_text("utf-8").splitlines()):
        rest = (award["badge_key"], award["context"], parse_instant(award["awarded_at"]))
        expected.update((f"{award['user_id']}-{town}", *rest) for town in range(towns))
    catalog: dict[str, Any] = yaml.safe_load(_DATA.joinpath("catalog.yaml").read_text("utf-8"))
    users = len({user for user, _ in told}) * towns
    return Stream("community", catalog, records, frozenset(expected), users)


def _moved(user: str, line: bytes, town: int) -> Record:
    name = f"{user}-{town}".encode()
    return name, line.replace(_USER + user.encode() + b'"', _USER + name + b'"', 1)
