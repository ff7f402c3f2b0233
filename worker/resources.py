"""Finds the data files shipped with the package (`sql/`, `schemas/`), in a wheel as in a checkout."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path


def resource(folder: str) -> Traversable:
    """The folder `sql` or `schemas`: inside the installed package, or beside it in a checkout."""
    inside = files("worker").joinpath(folder)
    return inside if inside.is_dir() else Path(__file__).parent.parent / folder
