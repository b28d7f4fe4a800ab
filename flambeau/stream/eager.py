"""Eager execution: every call is executed before it returns, for debugging."""

from __future__ import annotations

from types import TracebackType

from ..core import config
from .flush import flush
from .record import LIMIT


class eager:
    """``with flambeau.eager():`` executes each call at once; ``FLAMBEAU_EAGER=1`` does it for the whole process."""

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled
        self.before = config.eager

    def __enter__(self) -> eager:
        self.before = config.eager
        flush()
        config.eager = self.enabled
        LIMIT[0] = 0 if self.enabled else config.instruction_limit
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        config.eager = self.before
        LIMIT[0] = 0 if self.before else config.instruction_limit
