"""The only driver: pending calls are looked up as a plan and run.

A repeated step costs a dictionary look-up, filling a table of addresses and one native call.  Results that nobody can
reach any more (by reference counts) are temporaries of the plan.
"""

from __future__ import annotations

from sys import getrefcount
from typing import Any

from ..core import config
from ..core.errors import TraceError
from . import cache, record
from .cache import STATS, LaunchPlan
from .record import BUFFERS, KEY, LIMIT, LOCK, ORIGINS, SCALARS, STATE, Buffer, Signature

PLANS: dict[Any, LaunchPlan] = {}          # (key, reference counts) -> plan
BY_LIVENESS: dict[Any, dict[Any, LaunchPlan]] = {}   # key -> liveness -> plan
_held = [0]                                # words in the keys of PLANS
OBSERVERS: list[Any] = []                  # explain: called with (plan, key) after each flush
_NOTHING: set[int] = set()


def flush() -> None:
    """Execute everything that is pending.

    Raises
    ------
    IndexError, RuntimeError, ...
        The error of a pending call that only execution could find; everything it does not touch is executed.
    """
    with LOCK:
        if not KEY:
            return
        if STATE.tracing is not None:
            raise TraceError(f"{STATE.tracing.name}: the value of a tensor was asked for while the operation is traced; values exist only after recording")
        key = (tuple(KEY), tuple(map(getrefcount, BUFFERS)))
        plan = None
        failed: Any = None
        try:
            plan = PLANS.get(key)
            if plan is None:
                plan = _find(key)
            for s, free, c, nbytes in plan.outs:
                b = BUFFERS[s]
                b.ptr = free.pop() if free else cache.memory.grow(c)
                b.pool = free
                b.nbytes = nbytes
                b.__class__ = record.Owned
            part: LaunchPlan | None = plan
            while part is not None:
                failed = part.run(part, BUFFERS, SCALARS)
                if failed:
                    raise _fail(part, failed)
                part = part.then
        except BaseException as error:
            if not failed:
                # not a failed check but an interrupt, or no memory: nothing that this flush would have made exists
                made = () if plan is None else [s for s, *_ in plan.outs]
                for s, b in enumerate(BUFFERS):
                    if b.ptr == 0 or s in made:
                        b.error = error
            raise
        finally:
            if plan is not None and not failed:
                for s in plan.keep:
                    BUFFERS[s].slot = None
            else:
                for b in BUFFERS:
                    b.slot = None
            while OBSERVERS and plan is not None:
                for see in OBSERVERS:
                    see(plan, key[0])
                plan = plan.then
            STATS["flushes"] += 1
            KEY.clear()
            BUFFERS.clear()
            SCALARS.clear()
            if ORIGINS:
                ORIGINS.clear()
            STATE.bytes = 0
            STATE.barrier = False
            if _rhythm.history:
                _rhythm.observed()
            LIMIT[0] = 0 if config.eager else _rhythm.length()


def _find(key: Any) -> LaunchPlan:
    """Second level: reference counts normalised to one live bit per fresh buffer."""
    STATS["misses"] += 1
    external = [b.ptr != 0 for b in BUFFERS]
    # BUFFERS itself and the argument of getrefcount account for two
    live = [e or c > 2 for e, c in zip(external, key[1], strict=True)]
    known = BY_LIVENESS.setdefault(key[0], {})
    mask = tuple(live)
    plan = known.get(mask)
    if plan is None:
        # a plan that keeps a little more alive than needed is still right: use it when the collector was late
        for other, p in known.items():
            if sum(other) - sum(mask) <= 2 and all(o or not m for o, m in zip(other, mask, strict=True)):
                STATS["superset"] += 1
                plan = p
                break
        else:
            plan = cache.build(key[0], external, live)
        known[mask] = plan
    words = len(key[0]) + len(key[1])
    if len(PLANS) >= cache.PLAN_LIMIT or _held[0] + words > cache.PLAN_WORDS:
        PLANS.clear()
        BY_LIVENESS.clear()
        _held[0] = 0
    PLANS[key] = plan
    _held[0] += words
    return plan


def _fail(part: LaunchPlan, failed: list[Any]) -> BaseException:
    """After a failed check: what depends on it fails with the same error, all the rest is executed; returns the first error.

    A call of a later part that depends on it is left out, so that memory which existed before keeps its contents.
    """
    bad: dict[int, BaseException] = {}      # slot -> why its contents do not exist
    origins = {f[3]: _error(part, *f) for f in reversed(failed)}
    first = origins[failed[0][3]]
    _spread(part.calls, origins, bad, executed=True)
    written: set[int] = set()               # existing memory that was to get contents which do not exist
    while part.then is not None:
        part = part.then
        reached = [c for c in part.calls if not _spread([c], {}, bad, executed=False, written=written)]
        if reached:
            rest = cache.build_part(reached, part.nbytes, part.external, [b.ptr != 0 for b in BUFFERS], part.scalars)
            more = rest.run(rest, BUFFERS, SCALARS)
            if more:
                _spread(reached, {f[3]: _error(rest, *f) for f in more}, bad, executed=True)
    for s, error in bad.items():
        if s not in written:
            BUFFERS[s].error = error
    return first


def _spread(calls: list[cache.Call], origins: dict[int, BaseException], bad: dict[int, BaseException], executed: bool, written: set[int] = _NOTHING) -> bool:
    """Extend ``bad`` by what the failed calls ``origins`` (by number) and all that read bad slots make; whether there was any."""
    any_bad = False
    for c in calls:
        error = origins.get(c.index) or next((bad[s] for s in c.ins if s in bad), None)
        if error is None:
            continue
        any_bad = True
        for s in c.outs:
            bad[s] = error
        for w in c.sig.writes:
            s = c.ins[w]
            if not executed and s not in bad and BUFFERS[s].ptr:
                written.add(s)
            bad.setdefault(s, error)
    return any_bad


_ERRORS = {"IndexError": IndexError, "RuntimeError": RuntimeError, "ValueError": ValueError, "ZeroDivisionError": RuntimeError}


def _error(part: LaunchPlan, message: str, index: int | None, size: int | None, origin: int) -> BaseException:
    """The error of a failed check, with the place in the user's code that recorded the call."""
    call = next(c for c in part.calls if c.index == origin)
    kind, _, text = message.partition("|")
    if not text:
        kind, text = "RuntimeError", message
    if size is not None:
        text = text.replace("{index}", str(index)).replace("{size}", str(size)).replace("{last}", str(size - 1))
    text = text.replace(" {index}", "").replace(" with size {size}", "").replace("{size}", "?").replace("{last}", "?")
    where = next((f for p, f in ORIGINS if p == call.position), None)
    if where is not None:
        text += f"\n{call.sig.name.strip('_')} recorded at {where[0]}, line {where[1]}, in {where[2]}"
    return _ERRORS[kind](text)


# ------------------------------------------------------------------ a stream that nobody observes


class _Rhythm:
    """Where the stream flushes itself: at a multiple of its period, so that keys repeat.

    A period that is longer than the limit is cut into pieces, always the same ones.
    """

    __slots__ = ("consumed", "history", "limit", "words")

    def __init__(self) -> None:
        self.limit = config.instruction_limit       # words of key
        self.words = 0                              # the length to repeat; 0: none was found
        self.consumed = 0                           # words of it that are done
        self.history: list[Signature] = []          # of the calls since the last observation

    def length(self) -> int:
        """The number of words after which to flush next."""
        if not self.words:
            return self.limit
        pieces = -(-self.words // self.limit)
        return min(-(-self.words // pieces), self.words - self.consumed)

    def observed(self) -> None:
        """The user looked at something: the loop starts anew."""
        self.history.clear()
        self.consumed, self.limit = 0, config.instruction_limit


_rhythm = _Rhythm()
_HISTORY = 1 << 14


def _after_record() -> None:
    """A call found the stream long, large, or touching memory that is shared with the outside."""
    if STATE.tracing is not None:
        return
    if STATE.barrier or config.eager:
        flush()
        return
    full = STATE.bytes > config.pending_bytes
    if not full and len(KEY) < _rhythm.length():
        LIMIT[0] = _rhythm.length()
        return
    r = _rhythm
    key, external = KEY[:], {s: id(b) for s, b in enumerate(BUFFERS) if b.ptr}
    history = [*r.history, *[k for k in key if k.__class__ is Signature]][-_HISTORY:]
    limit = len(key) if full else r.limit
    consumed, plans = r.consumed + len(key), STATS["plans"]
    flush()
    r.history, r.consumed, r.limit = history, consumed, limit
    if STATS["plans"] != plans or full:
        # not in step: find what repeats
        p = _period(_tokens(key, external)) or _period([(h, 1 + len(h.ins)) for h in history])
        words = max(1, limit // p) * p if p else 0
        if words != r.words:
            r.words, r.consumed = words, 0
    if r.consumed >= r.words:
        r.consumed = 0
    LIMIT[0] = r.length()


def _tokens(key: list[Any], external: dict[int, int]) -> list[tuple[Any, int]]:
    """Per call what repeats when the program does, and its words: signature, distance of operands made here, identity of others."""
    tokens = []
    i = made = 0
    while i < len(key):
        sig = key[i]
        n = len(sig.ins)
        slots = key[i + 1: i + 1 + n]
        made = max([made, *[s + 1 for s in slots if s in external]])
        tokens.append(((sig, *[external.get(s) or made - s for s in slots]), 1 + n))
        made += len(sig.outs)
        while made in external:
            made += 1
        i += 1 + n
    return tokens


def _period(tokens: list[tuple[Any, int]]) -> int:
    """Words in the shortest repetition at the end; 0 when there is none."""
    n = len(tokens)
    half = n // 2
    last = tokens[-1]
    for p in range(1, half + 1):
        if tokens[n - 1 - p] == last and tokens[n - half:] == tokens[n - half - p: n - p]:
            return sum(words for _, words in tokens[n - p:])
    return 0


record.after_record = _after_record
