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
OBSERVERS: list[Any] = []                  # explain: called with (plan, key) after each flush
_length = config.instruction_limit          # where the stream flushes itself


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
            failed = plan.run(plan, BUFFERS, SCALARS)
            if failed:
                _fail(plan, failed)
        except BaseException as error:
            # what this flush would have made stays failed with the same error
            if not failed:
                for b in BUFFERS:
                    if b.ptr == 0 or (plan is not None and b.__class__ is record.Owned and _fresh(plan, b)):
                        b.error = error
            raise
        finally:
            if plan is not None and not failed:
                for s in plan.keep:
                    BUFFERS[s].slot = None
            else:
                for b in BUFFERS:
                    b.slot = None
            if OBSERVERS and plan is not None:
                for see in OBSERVERS:
                    see(plan, key[0])
            STATS["flushes"] += 1
            KEY.clear()
            BUFFERS.clear()
            SCALARS.clear()
            if ORIGINS:
                ORIGINS.clear()
            STATE.bytes = 0
            STATE.barrier = False
            LIMIT[0] = 0 if config.eager else _length


def _fresh(plan: LaunchPlan, b: Buffer) -> bool:
    return any(BUFFERS[s] is b for s, *_ in plan.outs)


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
    if len(PLANS) > cache.PLAN_LIMIT:
        PLANS.clear()
        BY_LIVENESS.clear()
    PLANS[key] = plan
    return plan


def _fail(plan: LaunchPlan, failed: list[Any]) -> None:
    """Turn a failed check into an error at the user's line; results that depend on it keep it."""
    stopped = failed[-1] is None
    message, index, size, origin = failed[0]
    calls = plan.calls
    call = calls[origin]
    kind, _, text = message.partition("|")
    if not text:
        kind, text = "RuntimeError", message
    where = next((f for p, f in ORIGINS if p == call.position), None)
    text = text.replace("{index}", str(index)).replace("{size}", str(size)).replace("{last}", str(size - 1))
    if where is not None:
        text += f"\n{call.sig.name} recorded at {where[0]}, line {where[1]}, in {where[2]}"
    error: BaseException = {"IndexError": IndexError, "RuntimeError": RuntimeError, "ValueError": ValueError,
                            "ZeroDivisionError": RuntimeError}[kind](text)
    bad: set[int] = set()
    for c in calls[origin:]:
        if c is call or any(s in bad for s in c.ins):
            bad.update(c.outs)
            if not stopped:
                bad.update(c.ins[w] for w in c.sig.writes)
    for s in range(len(BUFFERS)):
        b = BUFFERS[s]
        if s in bad or (stopped and any(s == o[0] for o in plan.outs) and s >= min(call.outs, default=0)):
            b.error = error
    raise error


def _after_record() -> None:
    """A call found the stream long, large, or touching memory that is shared with the outside."""
    global _length
    if STATE.tracing is not None:
        return
    if STATE.barrier or config.eager or STATE.bytes > config.pending_bytes:
        flush()
        return
    if len(KEY) < _length:
        LIMIT[0] = _length
        return
    # a loop that never observes: from now on flush at a multiple of its period, so that keys repeat
    p = _period()
    flush()
    _length = config.instruction_limit // p * p if p else config.instruction_limit
    LIMIT[0] = _length


def _period() -> int:
    """Length in key words of the shortest repetition at the end of the stream; 0 when there is none."""
    positions = [i for i, k in enumerate(KEY) if k.__class__ is Signature]
    sigs = [KEY[i] for i in positions]
    n = len(sigs)
    last = sigs[-1]
    for p in range(1, min(512, n // 2) + 1):
        if sigs[n - 1 - p] is last:
            w = max(p, 16)
            if w + p <= n and sigs[n - w:] == sigs[n - w - p: n - p]:
                return positions[n - 1] - positions[n - 1 - p]
    return 0


record.after_record = _after_record
