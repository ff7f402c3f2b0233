"""How many examples a property is tried with whose examples cost more, or less, than others'."""

from __future__ import annotations

from hypothesis import settings


def tried(times: int) -> settings:
    """So many examples; in `make acceptance-properties` no fewer than every other property has."""
    wanted = settings().max_examples
    return settings(max_examples=max(times, wanted) if settings.get_current_profile_name() == "acceptance" else times)
