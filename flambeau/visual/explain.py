"""``flambeau.explain(fn, *args)``: what was recorded, which kernels it became, and what they cost.

The stream is watched while ``fn`` runs; plans are made anew for the occasion, so that the scheduler can say what it fused and
why it did not fuse more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

from ..runtime.threads import get_num_threads
from ..stream import cache
from ..stream import flush as driver
from ..stream.record import Signature
from .peak import peak

_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def _bytes(n: int) -> str:
    for size, unit in _UNITS:
        if n >= size:
            return f"{n / size:.1f} {unit}"
    return f"{n} B"


def _count(n: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if n >= size:
            return f"{n / size:.1f} {unit}"
    return f"{n:.0f} "


def _some(n: int, thing: str, plural: str = "s") -> str:
    return f"{n} {thing}{'' if n == 1 else plural}"


class Flush:
    """One execution of the stream: the calls recorded and the launches they became."""

    def __init__(self, plan: Any, known: bool) -> None:
        self.known = known
        self.calls = [_call_text(c) for c in plan.calls]
        self.first: int = plan.calls[0].index if plan.calls else 0     # a stream may be executed in parts
        made = getattr(plan, "plan", None)
        self.interpreted = made is None and plan.program is not None
        if self.interpreted:
            made = _as_if_compiled(plan.program)
        self.launches: list[dict[str, Any]] = getattr(made, "report", [])
        self.llvm: tuple[str, ...] = getattr(made, "code", ())
        self.arena = getattr(made, "arena", 0)
        ends = getattr(plan, "times", [])
        self.times = [end - start for start, end in pairwise(ends)] if len(ends) == len(self.launches) + 1 else []

    def text(self, ir: str | None = None, rates: bool = True) -> str:
        """A readable account; ``ir``: "loops" or "llvm" adds the kernels' code; ``rates``: how fast products were."""
        out = [f"flush of {_some(len(self.calls), 'call')}, {_some(len(self.launches), 'launch', 'es')}, arena {_bytes(self.arena)}"]
        if self.interpreted:
            out.append("  NumPy interpreted the calls one by one; compiled, they would be the kernels below")
        for i, c in enumerate(self.calls):
            out.append(f"  call {self.first + i:<3d} {c}")
        for k, launch in enumerate(self.launches):
            fused = sorted(set(launch["origins"]))
            names = ", ".join(self.calls[o - self.first].split(" ", 1)[0] for o in fused if o is not None)
            out.append(f"  kernel {k}: calls {fused} ({names})")
            out.append(f"    reads {_bytes(launch['read'])}, writes {_bytes(launch['written'])}, {_count(launch['operations'])}operations")
            if launch["blocking"]:
                out.append(f"    {launch['blocking']}")
                if self.times and rates:
                    out.append(f"    {_rate(launch, self.times[k])}")
            if launch["apart"]:
                out.append(f"    not fused with the one before: {launch['apart']}")
            if ir == "loops":
                out.extend("      " + line for line in launch["kernel"].splitlines())
        if ir == "llvm":
            for text in self.llvm:
                out.append(text)
        return "\n".join(out)


def _rate(launch: dict[str, Any], seconds: float) -> str:
    """How fast a product was: this once, its operands as cold as they were."""
    done = launch["operations"] / seconds
    text = f"{seconds * 1e6:.0f} µs, {done / 1e9:.1f} G{'FLOPS' if launch['dtype'].is_floating_point else 'OPS'}"
    if not launch["dtype"].is_floating_point:
        return text
    threads = get_num_threads()
    return f"{text}, {done / (threads * peak(launch['dtype'].name)):.0%} of the peak of {_some(threads, 'thread')}"


def _as_if_compiled(program: Any) -> Any:
    """The plan that the scheduler would make of a program that the reference interpreter runs."""
    from ..render import render
    from ..schedule import build

    made = build(program)
    made.code = tuple(render(k) for k in made.kernels)
    return made


def _call_text(call: Any) -> str:
    sig: Signature = call.sig
    ins = ", ".join(f"{_meta(m)} %{s}" for m, s in zip(sig.ins, call.ins, strict=True))
    outs = ", ".join(f"{_meta(m)} %{s}" for m, s in zip(sig.outs, call.outs, strict=True))
    written = f" writes %{', %'.join(str(call.ins[w]) for w in sig.writes)}" if sig.writes else ""
    return f"{sig.name} ({ins}) -> {outs or 'in place'}{written}"


def _meta(m: Any) -> str:
    return f"{m.dtype.name}{list(m.shape)}"


class Report:
    """What happened while it was open: ``flushes``, compile and cache figures, ``str()`` for people."""

    def __init__(self, ir: str | None = None) -> None:
        self.flushes: list[Flush] = []
        self.ir = ir
        self.result: Any = None
        self.compiled = self.disk_hits = 0

    @property
    def kernels(self) -> int:
        """Kernel launches in all flushes."""
        return sum(len(f.launches) for f in self.flushes)

    def __str__(self) -> str:
        alike: dict[str, list[Flush]] = {}      # a loop executes the same plan again and again: tell it once, as it went last
        for f in self.flushes:
            alike.setdefault(f.text(self.ir, rates=False), []).append(f)
        parts = [("" if len(same) == 1 else f"{len(same)} times: ") + same[-1].text(self.ir) for same in alike.values()] or ["nothing was executed"]
        read = sum(x["read"] for f in self.flushes for x in f.launches)
        written = sum(x["written"] for f in self.flushes for x in f.launches)
        operations = sum(x["operations"] for f in self.flushes for x in f.launches)
        plans = sum(not f.known for f in self.flushes)
        parts.append(f"total: {_some(len(self.flushes), 'flush', 'es')}, {_some(self.kernels, 'launch', 'es')}, reads {_bytes(read)}, "
                     f"writes {_bytes(written)}, {_count(operations)}operations")
        parts.append(f"plans: {plans} made, {len(self.flushes) - plans} found in the cache")
        if any(f.interpreted for f in self.flushes):
            parts.append("machine code: none, NumPy interpreted everything")
        else:
            needed = sum(len(f.llvm) for f in self.flushes if not f.known)
            parts.append(f"machine code: {self.compiled} compiled, {self.disk_hits} from the disk cache, "
                         f"{max(0, needed - self.compiled - self.disk_hits)} in memory already")
        return "\n".join(parts)

    __repr__ = __str__


@contextmanager
def session(ir: str | None = None) -> Iterator[Report]:
    """Watch everything that is executed inside the block."""
    from ..runtime import cpu

    report = Report(ir)
    plans = driver.exchange(driver.Plans())
    seen: dict[int, Any] = {}           # plans by identity, kept alive so that no other takes it
    before = dict(cpu.STATS)

    def see(plan: Any) -> None:
        report.flushes.append(Flush(plan, id(plan) in seen))
        seen[id(plan)] = plan

    driver.OBSERVERS.append(see)
    cache.OBSERVED.append(report)
    try:
        yield report
        driver.flush()
    finally:
        driver.OBSERVERS.remove(see)
        cache.OBSERVED.remove(report)
        driver.exchange(plans)
        report.compiled = int(cpu.STATS["compiled"] - before["compiled"])
        report.disk_hits = int(cpu.STATS["disk_hits"] - before["disk_hits"])


def explain(fn: Callable[..., Any], *args: Any, ir: str | None = None, **kwargs: Any) -> Report:
    """Run ``fn(*args, **kwargs)`` and tell what the engine did.

    Parameters
    ----------
    fn : callable
        Anything that uses tensors.
    ir : {"loops", "llvm"}, optional
        Include the loop IR or the LLVM IR of every kernel.

    Returns
    -------
    Report
        Prints as text; ``report.flushes[i].launches`` holds the figures, ``report.result`` what ``fn`` returned.

    Raises
    ------
    ValueError
        For another ``ir``; otherwise whatever ``fn`` raises.
    """
    if ir not in (None, "loops", "llvm"):
        raise ValueError(f"explain: ir must be None, 'loops' or 'llvm', got {ir!r}")
    with session(ir) as report:
        report.result = fn(*args, **kwargs)
    return report
