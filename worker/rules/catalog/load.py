"""From a catalog as written to a catalog: every section checked and read, every fault at once."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from worker.errors import AuthorError, Fault
from worker.rules.catalog.badges_section import BadgeReader
from worker.rules.catalog.conditions_section import ConditionTypes
from worker.rules.catalog.definitions import Catalog
from worker.rules.catalog.document import Document, Source, read_document
from worker.rules.catalog.events_section import read_events
from worker.rules.catalog.lint import warnings
from worker.rules.catalog.metrics_section import read_metrics
from worker.rules.catalog.names import CatalogNames
from worker.rules.catalog.options import read_options
from worker.rules.catalog.routing import route
from worker.rules.catalog.sections import CATALOG

__all__ = ["Reading", "Source", "catalog_from_document", "load_catalog", "read", "read_catalog"]


@dataclass(frozen=True, slots=True)
class Reading:
    """What came of reading sources: the catalog if it is clean, all faults with their places, the document.

    The document is empty where a source could not be read at all.
    """

    catalog: Catalog | None
    faults: list[Fault]
    document: Document


def read_catalog(sources: Sequence[Source]) -> tuple[Catalog | None, list[Fault]]:
    """The catalog, None where there is an error, and all faults and warnings, sorted by place."""
    reading = read(sources)
    return reading.catalog, reading.faults


def load_catalog(sources: Sequence[Source]) -> Catalog:
    """The catalog. Raises AuthorError with all errors; warnings are no errors."""
    reading = read(sources)
    if reading.catalog is None:
        raise AuthorError([fault for fault in reading.faults if fault.severity == "error"])
    return reading.catalog


def catalog_from_document(document: Mapping[str, Any], version: int) -> Catalog:
    """The catalog of a merged document as the database keeps it. Raises AuthorError where it has errors."""
    with _no_collections():
        catalog, faults = _build(dict(document), version)
    if catalog is None:
        raise AuthorError([fault for fault in faults if fault.severity == "error"])
    return catalog


def read(sources: Sequence[Source]) -> Reading:
    """Reads sources to the catalog or to all that is wrong with them."""
    with _no_collections():
        document, faults = read_document(sources)
        if document is None:
            return Reading(None, faults, Document({}, tuple(sources)))
        catalog, found = _build(document.data, 0)
        faults = [document.placed(fault) for fault in [*faults, *found]]
    order = {source.name: index for index, source in enumerate(sources)}
    faults.sort(key=lambda fault: (order.get(fault.file or "", -1), fault.line or 0, fault.column or 0))
    clean = not any(fault.severity == "error" for fault in faults)
    return Reading(catalog if clean else None, faults, document)


def _build(data: dict[str, Any], version: int) -> tuple[Catalog | None, list[Fault]]:
    """Checks the form of everything, then reads the sections in the order in which they name each other."""
    faults: list[Fault] = []
    CATALOG.check(data, "", faults)
    dictionary = read_events(data.get("events"), data.get("schedules"), faults)
    holidays = _holidays(data.get("holidays"))
    metrics = data.get("metrics")
    metric_names = tuple(metrics) if isinstance(metrics, Mapping) else ()
    conditions = ConditionTypes(data.get("condition_types"), faults)
    names = CatalogNames(dictionary, faults=faults, holidays=holidays, metrics=metric_names, conditions=conditions)
    read_metrics(metrics, names)
    feb_29: Literal["feb_28", "mar_1"] = "mar_1" if data.get("feb_29") == "mar_1" else "feb_28"
    badges = BadgeReader(names, feb_29=feb_29).read(data)
    badges = route(badges, data, names)
    options = read_options(data, names)
    faults += warnings(badges, names.metrics, names.used)
    if any(fault.severity == "error" for fault in faults):
        return None, faults
    catalog = Catalog(
        dictionary=dictionary,
        metrics=names.metrics,
        badges=tuple(badges),
        timezone=data.get("timezone", "UTC"),
        feb_29=feb_29,
        holidays=holidays,
        options=options,
        conditions=conditions.used,
        document=data,
        version=version,
    )
    return catalog, faults


def _holidays(section: Any) -> dict[str, tuple[str, ...]]:
    lists = section.items() if isinstance(section, Mapping) else ()
    return {name: tuple(d for d in dates if isinstance(d, str)) for name, dates in lists if isinstance(dates, list)}


@contextmanager
def _no_collections() -> Iterator[None]:
    """A large catalog is millions of objects that all stay; looking for garbage among them takes half of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
