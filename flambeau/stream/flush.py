"""The only driver: pending calls are looked up as a plan and run.

A repeated step costs a dictionary look-up, filling a table of addresses and one native call.  Results that nobody can
reach any more (by reference counts) are temporaries of the plan.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from sys import getrefcount
from typing import Any

from ..core import config
from ..core.errors import TraceError
from . import cache, record, straight
from .cache import STATS, LaunchPlan
from .record import (
    CALLS,
    ELSEWHERE,
    LIMIT,
    LOCK,
    OPERANDS,
    ORIGINS,
    SCALARS,
    STATE,
    THREAD,
    UNUSUAL,
    Buffer,
    Owned,
    Signature,
    WatchedOwned,
    acquire,
    failed,
    picker,
    release,
    taken_apart,
    tick,
    watch,
)

OBSERVERS: list[Any] = []                  # explain: called with each plan after its flush


class Pattern:
    """Which operands and results of a list of calls are one buffer; with the calls themselves the structure of a stream.

    It is recognised without numbering anything: ``first`` picks every buffer where it stands first, ``every`` puts what was picked
    in all places again, the outcome must be ``OPERANDS``, and what was picked different buffers.
    """

    __slots__ = ("appearances", "every", "external", "first", "fresh", "live", "plans", "slots", "straight")

    def __init__(self, signatures: Sequence[Signature], operands: Sequence[Buffer]) -> None:
        numbers: dict[Buffer, int] = {}
        self.slots = [numbers.setdefault(b, len(numbers)) for b in operands]        # dense, in order of appearance
        made = {s for _, _, outs in taken_apart(signatures, self.slots) for s in outs}
        self.external = [s not in made for s in range(len(numbers))]                # had memory before
        places: dict[int, int] = {}
        for i, s in enumerate(self.slots):
            places.setdefault(s, i)
        self.first = picker(list(places.values()))
        self.every = picker(self.slots)
        self.fresh = picker(sorted(made))
        appearances = Counter(self.slots)
        self.appearances = [appearances[s] for s in sorted(made)]
        self.plans: dict[tuple[int, ...], LaunchPlan] = {}      # by the reference counts of what is made
        self.live: dict[tuple[bool, ...], LaunchPlan] = {}      # by what of that somebody holds
        self.straight: Callable[[], bool] | None = None         # executes what is pending by the plan that was used often, if it fits

    def held(self, counts: Sequence[int]) -> tuple[bool, ...]:
        """Who of what is made is held by somebody else."""
        # besides the places in ``OPERANDS``, where each counts twice by now, a buffer is held by what was picked, twice, and by the argument of getrefcount
        return tuple([c > 2 * n + 3 for c, n in zip(counts, self.appearances, strict=True)])


class Plans:
    """All plans, by what they are plans of: calls, pattern, reference counts."""

    __slots__ = ("count", "patterns", "words")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget them."""
        self.patterns: dict[tuple[Signature, ...], list[Pattern]] = {}
        self.count = self.words = 0         # of plans under reference counts, of all that is in keys

    def pattern(self, signatures: tuple[Signature, ...], operands: tuple[Buffer, ...]) -> Pattern:
        """A structure that was not seen yet."""
        self.make_room(len(signatures) + len(operands), 0)
        p = Pattern(signatures, operands)
        self.patterns.setdefault(signatures, []).append(p)
        return p

    def make_room(self, words: int, count: int) -> None:
        """Count what comes next; where it is too much, everything goes (a pattern in use is made again by the next flush)."""
        if self.count + count > cache.PLAN_LIMIT or self.words + words > cache.PLAN_WORDS:
            self.clear()
        self.count += count
        self.words += words


PLANS = [Plans()]       # the one in use


def exchange(plans: Plans) -> Plans:
    """Work with these plans from here on; returns those used so far."""
    with LOCK:
        flush()
        before, PLANS[0] = PLANS[0], plans
    return before


def flush() -> None:
    """Execute everything that is pending.

    Raises
    ------
    IndexError, RuntimeError, ...
        The error of a pending call that only execution could find; everything it does not touch is executed.
    """
    acquire()
    try:
        if _rhythm.running:
            _rhythm.observed()
        _flush()
    finally:
        release()
    if ELSEWHERE and THREAD.errors:
        raise failed(THREAD.errors[0])


def _flush() -> None:
    if not CALLS:
        return
    if STATE.tracing is not None:
        raise TraceError(f"{STATE.tracing.name}: the value of a tensor was asked for while the operation is traced; values exist only after recording")
    signatures = tuple(CALLS)
    patterns = PLANS[0].patterns.get(signatures, ())
    for p in patterns:
        if p.straight is not None and p.straight():
            return
    operands = tuple(OPERANDS)
    for p in patterns:
        buffers = p.first(operands)
        if p.every(buffers) == operands and len({*buffers}) == len(buffers):
            break
    else:
        p = PLANS[0].pattern(signatures, operands)
        buffers = p.first(operands)
    counts = tuple(map(getrefcount, p.fresh(buffers)))
    plan = None
    failed: Any = None
    try:
        plan = p.plans.get(counts)
        if plan is None:
            plan = _find(signatures, p, counts)
        for s, free, c, nbytes in plan.outs:
            b = buffers[s]
            try:
                b.ptr = free.pop()
            except IndexError:          # nothing free, or another thread was faster
                b.ptr = cache.memory.grow(c)
            b.pool = free
            b.nbytes = nbytes
            b.__class__ = Owned
        if UNUSUAL:
            for s, *_ in plan.outs:
                if id(buffers[s]) in UNUSUAL:       # an array over it is being made already
                    buffers[s].__class__ = WatchedOwned
        part: LaunchPlan | None = plan
        while part is not None:
            failed = part.run(part, buffers, SCALARS)
            if failed:
                own = _fail(plan, part, failed, buffers)
                if own is None:
                    break
                raise own
            part = part.then
    except BaseException as error:
        if not failed:
            _broken(error, plan, buffers)
        raise
    else:
        plan.uses += 1
        if plan.uses == straight.STEADY:
            p.straight = straight.written_out(signatures, p.slots, p.held(counts), plan, OBSERVERS, _rhythm, _broken, _failing)
    finally:
        while OBSERVERS and plan is not None:
            for see in OBSERVERS:
                see(plan)
            plan = plan.then
        STATE.flushes += 1
        STATE.flushed = tick()
        CALLS.clear()
        OPERANDS.clear()
        SCALARS.clear()
        if ORIGINS:
            ORIGINS.clear()
        STATE.bytes = 0
        STATE.barrier = False
        LIMIT[0] = 0 if config.eager else _rhythm.due


def _broken(error: BaseException, plan: LaunchPlan | None, buffers: Sequence[Buffer]) -> None:
    """Not a failed check but an interrupt, or no memory: nothing that this flush would have made exists."""
    made = () if plan is None else [s for s, *_ in plan.outs]
    for s, b in enumerate(buffers):
        if b.ptr == 0 or s in made:
            b.error = error
            watch(b)


def _failing(plan: LaunchPlan, buffers: Sequence[Buffer]) -> None:
    """Raise the error of checks that failed, if this thread recorded them."""
    own = _fail(plan, plan, cache.failures(plan), buffers)
    if own is not None:
        raise own


def forget() -> None:
    """Execute everything that is pending, and make plans anew from here on."""
    with LOCK:
        flush()
        PLANS[0].clear()
        cache.PIECES.clear()


config.BEFORE_CHANGE.append(forget)


def _find(signatures: Sequence[Signature], pattern: Pattern, counts: tuple[int, ...]) -> LaunchPlan:
    """Second level: reference counts normalised to one live bit per fresh buffer."""
    STATS["misses"] += 1
    mask = pattern.held(counts)
    known = pattern.live
    plan = known.get(mask)
    if plan is None:
        # a plan that keeps a little more alive than needed is still right: use it when the collector was late
        for other, p in known.items():
            if sum(other) - sum(mask) <= 2 and all(o or not m for o, m in zip(other, mask, strict=True)):
                STATS["superset"] += 1
                plan = p
                break
        else:
            made = iter(mask)
            plan = cache.build(signatures, pattern.slots, pattern.external, [e or next(made) for e in pattern.external])
        known[mask] = plan
    PLANS[0].make_room(len(counts), 1)
    pattern.plans[counts] = plan
    return plan


def _fail(plan: LaunchPlan, part: LaunchPlan, failed: list[Any], buffers: Sequence[Buffer]) -> BaseException | None:
    """After a failed check in ``part``: what depends on it fails with the same error, all the rest is executed.

    Returns the first error of a call that this thread recorded; those of other threads are raised when these look at something.

    A call of a later part that depends on it is left out, so that memory which existed before the flush keeps its contents.
    """
    damage = _Damage(buffers)
    origins = {f[3]: _error(part, *f) for f in reversed(failed)}
    for c in part.calls:
        damage.spread(c, origins.get(c.index))
    kept: set[int] = set()                  # existing memory that was to get contents which do not exist
    while part.then is not None:
        part = part.then
        reached = []
        for c in part.calls:
            before = set(damage.bad)
            if damage.spread(c, None):
                kept.update(s for s in set(damage.bad) - before if plan.external[s])
            else:
                reached.append(c)
        if reached:
            rest = cache.build_part(reached, part.nbytes, part.external, [b.ptr != 0 for b in buffers], part.scalars)
            more = rest.run(rest, buffers, SCALARS)
            if more:
                late = {f[3]: _error(rest, *f) for f in more}
                for c in reached:
                    damage.spread(c, late.get(c.index))
    for s, error in damage.bad.items():
        if s not in kept:
            buffers[s].error = error
            watch(buffers[s])
    own = None
    for f in failed:
        error = origins[f[3]]
        errors = getattr(error, "errors_of_thread", THREAD.errors)
        if errors is THREAD.errors:
            own = own or error
        elif error not in errors:
            errors.append(error)
            ELSEWHERE.append(None)
    return own


class _Damage:
    """Why the contents of some slots do not exist."""

    def __init__(self, buffers: Sequence[Buffer]) -> None:
        self.bad: dict[int, BaseException] = {}
        self.buffers = buffers

    def spread(self, c: cache.Call, error: BaseException | None) -> bool:
        """Whether the call failed by itself (``error``) or reads what does not exist; then what it makes does not exist either."""
        sig = c.sig
        # an operation's destination comes last and is not read
        only_written = sig.kinds is not None and sig.writes
        if error is None:
            error = next((self.bad[s] for s in (c.ins[:-1] if only_written else c.ins) if s in self.bad), None)
        if error is None:
            if only_written and sig.ins[-1].nbytes == self.size(c.ins[-1]):
                self.bad.pop(c.ins[-1], None)       # overwritten as a whole
            return False
        for s in (*c.outs, *[c.ins[w] for w in sig.writes]):
            self.bad.setdefault(s, error)
        return True

    def size(self, slot: int) -> int:
        """Bytes of the memory of a slot; 0 when it has none."""
        b = self.buffers[slot]
        return b.nbytes if b.ptr else 0


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
    where = next((f for p, f in ORIGINS if p == call.index), None)
    if call.sig.name == "_valid":       # indices are checked apart: the user called what reads them
        following: LaunchPlan | None = part
        while following is not None and call.sig.name == "_valid":
            call = next((c for c in following.calls if call.outs[0] in c.ins), call)
            following = following.then
    if where is None:
        return _ERRORS[kind](text)
    code, instruction, errors = where
    if code is not None:
        text += f"\n{call.sig.name.strip('_')} recorded at {code.co_filename}, line {record.line_of(code, instruction)}, in {code.co_name}"
    error = _ERRORS[kind](text)
    error.errors_of_thread = errors  # type: ignore[attr-defined]
    return error


# ------------------------------------------------------------------ a stream that nobody observes


class _Rhythm:
    """Where the stream flushes itself: at a multiple of its period, so that keys repeat.

    A period that is longer than the limit is cut into pieces, always the same ones.  Short ones are looked for before the limit is
    reached: a plan costs what its calls cost, so that of a few repetitions is as good as that of a thousand, and made much sooner.
    """

    __slots__ = ("calls", "consumed", "due", "glance", "history", "in_step", "limit", "made", "misses", "piece", "running", "words")

    def __init__(self) -> None:
        self.words = 0                              # the length to repeat; 0: none was found
        self.misses = 0                             # plans made one after another without a period being found
        self.observed()

    def observed(self) -> None:
        """The user looked at something: the loop starts anew."""
        self.running = False                        # the stream has flushed itself since
        self.limit: int = config.instruction_limit  # entries of OPERANDS
        self.piece: int = config.instruction_limit  # at most as many while no period is found
        self.glance = _ENOUGH                       # how many to look for a short period at
        self.consumed = 0                           # words of the period that are done
        self.in_step = False                        # the last flush needed no new plan
        self.calls = 0
        self.history: list[tuple[Any, int]] = []    # what was recorded since, see ``note``
        self.made: dict[int, int] = {}              # buffer -> the call that made it
        self.due = self.length()                    # what ``length`` said last

    def length(self) -> int:
        """The number of words after which to flush next, or to look for a period."""
        if not self.words:
            return min(self.limit, self.piece, self.glance)
        pieces = -(-self.words // self.limit)
        return min(-(-self.words // pieces), self.words - self.consumed)

    def repeats(self) -> bool:
        """Whether what is pending has come to repeat itself, many times; otherwise the next look is when it is twice as long."""
        self.glance *= 2
        ids = list(map(id, OPERANDS))
        places: dict[int, int] = {}
        h = []
        for i, (sig, ins, outs) in enumerate(record.taken_apart(CALLS, ids)):
            h.append((sig, *[i - places[o] if o in places else o for o in ins]))
            places.update(dict.fromkeys(outs, i))
        return bool(_period(h, len(h) // 8))

    def note(self) -> None:
        """Append per pending call what repeats when the program does: signature, distance to what made each operand; and its words."""
        for b in OPERANDS:
            if not b.ptr:
                self.made.pop(id(b), None)
        for sig, ins, outs in record.taken_apart(CALLS, list(map(id, OPERANDS))):
            self.history.append(((sig, *[self.calls - self.made[o] if o in self.made else o for o in ins]), len(ins) + len(outs)))
            for o in outs:
                self.made[o] = self.calls
            self.calls += 1
        del self.history[:-_HISTORY]

    def period(self) -> int:
        """Words in the shortest repetition of the second half of the history; 0 when there is none."""
        h = self.history
        p = _period(h, len(h) // 2)
        return sum([words for _, words in h[len(h) - p:]])


def _period(h: list[Any], most: int) -> int:
    """The length of the shortest repetition that makes the second half of ``h``, if it is at most ``most``, else 0."""
    n = len(h)
    half = n // 2
    for p in range(1, most + 1):
        if h[n - 1 - p] == h[-1] and h[n - half:] == h[n - half - p: n - p]:
            return p
    return 0


_HISTORY = 1 << 14      # calls
_ENOUGH = 128           # entries of OPERANDS in a plan of repetitions
_SHORTEST = 16          # and in one of what does not repeat
_EARLY, _PATIENCE = 2, 60       # misses before which pieces stay long, and after which they are long again
_rhythm = _Rhythm()


def _after_record() -> None:
    """A call found the stream long, large, or touching memory that is shared with the outside."""
    if STATE.tracing is not None:
        return
    if STATE.barrier or config.eager:
        flush()
        return
    r = _rhythm
    full = STATE.bytes > config.pending_bytes
    if not full and (len(OPERANDS) < r.length() or (not r.words and len(OPERANDS) < min(r.limit, r.piece) and not r.repeats())):
        LIMIT[0] = r.due = r.length()
        return
    if full and len(OPERANDS) < r.limit:
        r.limit = len(OPERANDS)
    r.running = True
    r.consumed += len(OPERANDS)
    if not r.in_step:
        r.note()
    plans = STATS["plans"]
    _flush()
    r.in_step = STATS["plans"] == plans
    if r.in_step:
        r.misses = min(r.misses, _EARLY)        # pieces of this length are good
        r.history.clear()
        r.made.clear()
    else:
        p = r.period()
        # what mixes shapes does not repeat as a whole, and short pieces of it do; where these do not either, they only cost more
        r.misses = 0 if p else r.misses + 1
        r.piece = max(_SHORTEST, r.piece // 4) if _EARLY < r.misses < _PATIENCE else config.instruction_limit
        words = max(1, min(r.limit, _ENOUGH) // p) * p if p else 0
        if words != r.words:
            r.words, r.consumed = words, 0
    if r.consumed >= r.words:
        r.consumed = 0
    LIMIT[0] = r.due = r.length()


record.after_record = _after_record
