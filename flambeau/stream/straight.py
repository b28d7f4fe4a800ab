"""A flush written out as source text, for a structure that comes again and again.

``flush`` recognises a structure with a few passes over its operands, by code that fits any.  After many uses what it does for one structure and
one plan is written out: operands in variables of their own, compared where two places are one buffer, and given memory.  Whatever is
different (other references, somebody who watches, a plan with several parts or host steps) is left to ``flush``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from sys import getrefcount
from typing import Any

from ..core import config
from ..runtime import pool
from . import cache, record
from .record import CALLS, LIMIT, OPERANDS, ORIGINS, SCALARS, STATE, UNUSUAL, Owned, Signature, WatchedOwned, tick

STEADY = 100        # uses after which a plan is written out
LONGEST = 400       # entries of OPERANDS; a longer stream takes so long that its look-up does not show


def _asking() -> int:
    x = object()
    return getrefcount(x) - 1


_ASKING = _asking()     # references that a variable's value has because somebody asks for their number


def written_out(signatures: Sequence[Signature], slots: Sequence[int], live: Sequence[bool], plan: cache.LaunchPlan,
                observers: list[Any], rhythm: Any, broken: Callable[..., None], failing: Callable[..., None]) -> Callable[[], bool] | None:
    """A function that executes what is pending and returns True, if it is what the plan is for; None: such a plan is not written out.

    ``slots``: the buffers of ``OPERANDS`` by number, ``live``: who of those that are made is held by somebody.  ``broken(error, plan, buffers)`` is told
    of an interrupt, ``failing(plan, buffers)`` of failed checks.
    """
    if plan.run is not cache.run_single or plan.then is not None or len(slots) > LONGEST:
        return None
    count = max(slots) + 1
    first = [slots.index(s) for s in range(count)]
    made = [s for _, _, outs in record.taken_apart(signatures, slots) for s in outs]
    given = [s for s in range(count) if s not in made]
    walk, head = plan.segments
    names = [f"b{s}" if first[s] == i else f"r{i}" for i, s in enumerate(slots)]
    conditions = ["True", *[f"r{i} is b{s}" for i, s in enumerate(slots) if first[s] != i]]
    # what a call makes is new; what it is given may be anything that was there before
    last = max([first[s] for s in given], default=-1)
    apart = [f"b{s}" for s in range(count) if first[s] <= last]
    if len(apart) == 2:
        conditions.append(f"{apart[0]} is not {apart[1]}")
    elif len(apart) > 2:
        conditions.append(f"len({{{', '.join(apart)}}}) == {len(apart)}")
    for s, alive in zip(sorted(made), live, strict=True):
        # held by OPERANDS and by variables of the function, once for each place
        conditions.append(f"references(b{s}) {'>' if alive else '=='} {2 * slots.count(s) + _ASKING}")
    memory = "".join([f"""
                try:
                    b{s}.ptr = free{s}.pop()
                except IndexError:
                    b{s}.ptr = grow({size})
                b{s}.pool = free{s}
                b{s}.nbytes = {nbytes}
                b{s}.__class__ = Owned""" for s, _, size, nbytes in plan.outs])
    watched = "".join([f"""
                    if id(b{s}) in UNUSUAL:
                        b{s}.__class__ = WatchedOwned""" for s, *_ in plan.outs])
    table = ["Arena.address" if plan.arena else "0", "errors", *[f"b{s}.ptr" for s in plan.plan.table], *(["*SCALARS"] if plan.scalars else [])]
    everything = "".join([f"b{s}, " for s in range(count)])

    def when(condition: Any, line: str) -> str:
        return line if condition else ""

    source = f"""
def run():
    if OBSERVERS:
        return False
    {", ".join(names)}, = OPERANDS
    if {" and ".join(conditions)}:
        try:
            try:{memory}
                {when(watched, f"if UNUSUAL:{watched}")}
                {when(plan.shared, "if not pool.started: pool.start()")}
                {when(plan.arena, f"if Arena.size < {plan.arena}: reserve({plan.arena})")}
                walk(head + pack({", ".join(table)}))
            except BaseException as error:
                broken(error, plan, ({everything}))
                raise
            {when(plan.checks, f"if ERRORS[0]: failing(plan, ({everything}))")}
        finally:
            STATE.flushes += 1
            STATE.flushed = tick()
            CALLS.clear()
            OPERANDS.clear()
            {when(plan.scalars, "SCALARS.clear()")}
            {when(any(sig.checks for sig in signatures), "ORIGINS.clear()")}
            {when(any(sig.large for sig in signatures), "STATE.bytes = 0")}
            STATE.barrier = False
            LIMIT[0] = 0 if config.eager else rhythm.due
        return True
    return False
"""
    known: dict[str, Any] = {
        "OBSERVERS": observers, "OPERANDS": OPERANDS, "CALLS": CALLS, "SCALARS": SCALARS, "ORIGINS": ORIGINS, "UNUSUAL": UNUSUAL, "STATE": STATE,
        "LIMIT": LIMIT, "Owned": Owned, "WatchedOwned": WatchedOwned, "Arena": cache.Arena, "ERRORS": cache.ERRORS, "errors": cache.errors_address,
        "reserve": cache.reserve, "grow": cache.memory.grow, "pool": pool, "tick": tick, "rhythm": rhythm, "config": config, "references": getrefcount,
        "broken": broken, "failing": failing, "walk": walk, "head": head, "pack": plan.pack, "plan": plan,
        **{f"free{s}": free for s, free, *_ in plan.outs},
    }
    exec(compile(source, "<flush>", "exec"), known)
    return known["run"]  # type: ignore[no-any-return]
