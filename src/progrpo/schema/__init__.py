"""Every logged metric and every measure, once: docs/metrics.md, the pages and the command line read it.

Metrics of training stand in the modules beside this one. A measure declares its quantities in its own file, as `COLUMNS`
(see `progrpo.measures`); the key `evaluate/KEY` of the metrics is the measure's mean over the held-out problems.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from progrpo import plugins
from progrpo.schema import methods, optimiser, rollout, sampler
from progrpo.schema.quantity import Quantity, matched

HELD_OUT = "evaluate/"
"""Before the key of a measure: its key in the metrics."""

BENCHMARK = "benchmark/"
"""Before TASK/KEY: the measure's key in the metrics, of a benchmark that is evaluated during training."""

METRICS: tuple[Quantity, ...] = (*rollout.METRICS, *methods.CONFIDENCE, *sampler.METRICS, *optimiser.METRICS)
"""In the order of docs/metrics.md."""
OWN = methods.OWN
"""Logged by a single method each."""


def columns(place: str | None = None) -> tuple[Quantity, ...]:
    """The quantities that measures declare: those that stand in a table, or all; Pass@k first, the others by their file."""
    declared = _columns()
    return declared if place is None else tuple(column for column in declared if place in column.drawn)


def column(key: str) -> Quantity | None:
    """The quantity of a measure's key: a member of its family where it is one, or another variant of it (`raw/...`); None of
    a key that no measure declares."""
    quantity = _find(_columns(), key)
    if quantity is not None:
        return quantity
    variants = [(one, variant) for one in _columns() for variant in zip(one.variants, one.keys[1:], strict=True)]
    for one, (variant, family) in variants:
        if (member := matched(family, key)) is not None:
            quantity = one.at(member) if member else one
            return replace(quantity, key=key, label=f"{quantity.label}, {variant.strip('/')}")
    return None


def known(key: str) -> Quantity | None:
    """The quantity of a logged key; None of a key that only a method or measure outside of this package logs."""
    quantity = _find((*METRICS, *OWN), key)
    if quantity is None and key.startswith(HELD_OUT):
        return column(key.removeprefix(HELD_OUT))
    if quantity is None and key.startswith(BENCHMARK):
        task, _, measure = key.removeprefix(BENCHMARK).partition("/")
        of_measure = known(HELD_OUT + measure)
        return of_measure and replace(of_measure, key=key, label=f"{of_measure.label}, {task}")
    return quantity


def metric(key: str) -> Quantity:
    """The quantity of a logged key.

    Raises:
        KeyError: nothing logs it. Whoever draws a metric asks here, so that a renamed one fails rather than being blank.
    """
    quantity = known(key)
    if quantity is None:
        raise KeyError(f"no metric {key!r} in progrpo.schema; a key that was renamed lists its old name as `formerly`")
    return quantity


def drawn(place: str) -> tuple[Quantity, ...]:
    """The metrics of training that stand in a figure or a table."""
    return tuple(one for one in METRICS if place in one.drawn)


def in_todays_words(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row of metrics with the keys that an older version wrote under today's names; a key of today goes before them."""
    return _renamed(row, _formerly())


def measures_in_todays_words(measures: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same of the measures of one problem."""
    return _renamed(measures, _old_names(_columns()))


@cache
def _columns() -> tuple[Quantity, ...]:
    # Pass@k is what every other measure is read beside.
    names = sorted(plugins.names("measures"), key=lambda name: name != "pass_at_k")
    return tuple(one for name in names for one in getattr(plugins.load("measures", name), "COLUMNS", ()))


def _find(quantities: Iterable[Quantity], key: str) -> Quantity | None:
    members = [(one, member) for one in quantities if (member := one.member(key)) is not None]
    exact = [one for one, _ in members if one.key == key]
    if exact:
        return exact[0]
    return members[0][0].at(members[0][1]) if members else None


def _formerly() -> dict[str, str]:
    held_out = {HELD_OUT + old: HELD_OUT + new for old, new in _old_names(_columns()).items()}
    return _old_names((*METRICS, *OWN)) | held_out


def _old_names(quantities: Iterable[Quantity]) -> dict[str, str]:
    """Old keys, those of families with their placeholder, and what they are called now."""
    return {old: one.key for one in quantities for old in one.formerly}


def _renamed(row: Mapping[str, Any], old_names: Mapping[str, str]) -> Mapping[str, Any]:
    if not old_names:
        return row
    todays = {_todays(key, old_names): value for key, value in row.items() if key not in old_names}
    old = {_todays(key, old_names): value for key, value in row.items()}
    return old | todays


def _todays(key: str, old_names: Mapping[str, str]) -> str:
    for old, new in old_names.items():
        member = matched(old, key)
        if member is not None:
            return Quantity(key=new, label="", unit="").at(member).key if member else new
    return key
