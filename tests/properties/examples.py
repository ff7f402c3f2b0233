"""How many examples a property is tried with whose examples cost more, or less, than others'."""

from __future__ import annotations

from hypothesis import settings

#: Where every property is promised so many examples, whatever they cost.
_PROMISED = ("ci", "acceptance")


def tried(times: int) -> settings:
    """So many examples; where a number is promised no fewer than every other property has."""
    wanted = settings().max_examples
    return settings(max_examples=max(times, wanted) if settings.get_current_profile_name() in _PROMISED else times)
