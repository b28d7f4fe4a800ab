"""Anomaly detection: backward stops at the first nan and shows the forward call that led to it."""

from __future__ import annotations

import traceback
from typing import Any

from . import engine, graph

_plain = graph.node


def _recording(entry: Any, edges: Any, saved: Any, params: Any = None) -> graph.Node:
    n = _plain(entry, edges, saved, params)
    n.anomaly = "".join(traceback.format_stack()[:-3])
    return n


def set_detect_anomaly(mode: bool, check_nan: bool = True) -> _Setting:
    """Turn detection on or off; also a context manager."""
    return _Setting(mode, check_nan)


def is_anomaly_enabled() -> bool:
    """Whether detection is on."""
    return engine.ANOMALY[0]


def set_anomaly_enabled(mode: bool, check_nan: bool = True) -> None:
    """Turn detection on or off."""
    _apply(mode, check_nan)


class _Setting:
    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        self.before = list(engine.ANOMALY)
        _apply(mode, check_nan)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: object) -> None:
        _apply(*self.before)


def _apply(mode: bool, check_nan: bool) -> None:
    engine.ANOMALY[:] = [bool(mode), bool(check_nan)]
    graph.node = _recording if mode else _plain


class detect_anomaly:
    """``with torch.autograd.detect_anomaly():`` checks every gradient for nan."""

    def __init__(self, check_nan: bool = True) -> None:
        self.check_nan = check_nan
        self.before = list(engine.ANOMALY)

    def __enter__(self) -> None:
        self.before = list(engine.ANOMALY)
        _apply(True, self.check_nan)

    def __exit__(self, *exc: object) -> None:
        _apply(*self.before)
