"""From a group of items to a kernel: phases, axes, lanes, argument words.

Input: a group, and for every slot where its memory is and whether what the group writes there is read by anybody; output: a
:class:`~flambeau.ir.kernel.Kernel` without sizes in it, the launch's argument words, and the number of parallel units.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, TypeVar

from ..core.dataclass import dataclass, replace
from ..ir import expression as ir
from ..ir.expression import Access, Expr
from ..ir.kernel import INVARIANT, UNIT, Define, Kernel, Loop, Place, Reduction, Scan, Scatter, Stage, Write
from ..ir.product import Product
from ..ir.simplify import Term, cost, move, move_access, nodes
from ..ir.stencil import Stencil
from ..ir.winograd import Filter, WeightGradient, Winograd
from .fuse import Group, Item, elements, key, padded
from .plan import Later

Form = TypeVar("Form", Product, Stencil, Winograd)

LARGE = 1 << 15             # points from which longer code pays
GRAIN = 1 << 15             # points of a parallel unit
KEPT_ROW = 1 << 18          # bytes of a row up to which a value is left in the cache for a later pass,
DEAR = 12                   # if it takes so many instructions
LONG_SUM = 1 << 10          # vectors added one after the other that are too many for one accumulator
_PLAIN = frozenset({-2, -1, 0, 1, 2, 0.5, -0.5, float("inf"), float("-inf")})     # constants that stay in the code


@dataclass()
class Launchable:
    """A kernel with what one launch of it needs."""

    kernel: Kernel | Product | Stencil | Winograd | Filter | WeightGradient
    words: tuple[Any, ...]          # ints, and what is known later
    units: int
    stored: frozenset[int]          # slots it stores to
    blocking: str = ""              # of a product, for people: its sizes and how it is cut


@dataclass()
class _Store:
    access: Access
    value: Expr
    row: bool
    rewrites: bool = False


@dataclass()
class _Reduction:
    number: int
    combine: str
    value: Expr


class Body:
    """A group with its values substituted into one another: what has to be computed and stored."""

    def __init__(self, g: Group, wanted: Callable[[int], bool]) -> None:
        self.sizes = g.sizes
        self.rank = len(g.sizes)
        split = g.split
        self.split = self.rank if split is None else split
        self.reductions: list[_Reduction] = []
        self.rows: dict[int, Expr] = {}                 # row value -> its expression (reductions are not in it)
        self.stores: dict[Access, _Store] = {}          # the last write of an element wins
        current: dict[Access, Expr] = {}                # element -> the value the group last gave it
        read: dict[Access, None] = {}
        rank = self.rank

        def resolve(e: Expr, memo: dict[Expr, Expr]) -> Expr:
            """Loads of what the group wrote replaced by the value."""
            if not current:
                for x in nodes(e):
                    if x.op == "load":
                        read[key(padded(x.attr, rank))] = None
                return widen(e, rank, memo)
            for x in nodes(e):
                if x in memo:
                    continue
                if x.op == "load":
                    access = padded(x.attr, rank)
                    known = current.get(key(access))
                    args = tuple([memo[a] for a in x.args])
                    if known is None:
                        read[key(access)] = None
                        memo[x] = ir.make("load", x.dtype, args, access)
                    elif len(args) == 2:
                        memo[x] = ir.where(args[1], known, ir.const(0 if access.fill is None else access.fill, x.dtype))
                    else:
                        memo[x] = known
                elif x.args:
                    args = tuple([memo[a] for a in x.args])
                    memo[x] = x if all(a is b for a, b in zip(args, x.args, strict=True)) else ir.make(x.op, x.dtype, args, x.attr)
                else:
                    memo[x] = x
            return memo[e]

        for item in g.items:
            memo: dict[Expr, Expr] = {}
            value = resolve(item.value, memo)
            access = padded(item.store, rank)
            if item.kind == "reduce":
                number = len(self.rows) + len(self.reductions)
                self.reductions.append(_Reduction(number, item.combine, value))
                result = ir.make("row", value.dtype, (), number)
                if item.finish is not None and item.finish.op != "acc":
                    accumulated = result
                    finish = ir.rewrite(item.finish, lambda x, a=accumulated: a if x.op == "acc" else None)  # type: ignore[misc]
                    result = self.row_value(resolve(finish, dict(memo)))
            elif item.row:
                result = self.row_value(value)
            else:
                result = value
            current[key(access)] = result
            if wanted(access.slot):
                row = item.kind == "reduce" or item.row
                self.stores.pop(key(access), None)
                self.stores[key(access)] = _Store(access, result, row, key(access) in read)
        self.prune()

    def row_value(self, value: Expr) -> Expr:
        """A name for a value that is computed once a row."""
        if value.op in ("row", "const", "scalar", "value"):
            return value
        number = len(self.rows) + len(self.reductions)
        self.rows[number] = value
        return ir.make("row", value.dtype, (), number)

    def prune(self) -> None:
        """Drop reductions and row values that nothing stored depends on."""
        by_number: dict[int, Expr] = dict(self.rows)
        by_number.update((r.number, r.value) for r in self.reductions)
        used: set[int] = set()
        pending = [s.value for s in self.stores.values()]
        while pending:
            for x in nodes(pending.pop()):
                if x.op == "row" and x.attr not in used:
                    used.add(x.attr)
                    pending.append(by_number[x.attr])
        self.rows = {n: e for n, e in self.rows.items() if n in used}
        self.reductions = [r for r in self.reductions if r.number in used]

    def phases(self) -> tuple[dict[int, int], dict[int, int], int]:
        """For each row value the first phase that may use it, for each reduction its phase, and the last phase with a loop."""
        ready: dict[int, int] = {}
        phase: dict[int, int] = {}
        known: dict[Expr, int] = {}
        numbers = sorted([*self.rows, *(r.number for r in self.reductions)])
        values = {r.number: r.value for r in self.reductions}

        for n in numbers:
            if n in values:
                phase[n] = needs(values[n], ready, known)
                ready[n] = phase[n] + 1
            else:
                ready[n] = needs(self.rows[n], ready, known)
        last = max([*phase.values(), *(needs(s.value, ready, known) for s in self.stores.values() if not s.row)], default=-1)
        return ready, phase, last

    def keep(self, ready: dict[int, int], phase: dict[int, int]) -> list[tuple[int, _Store]]:
        """What a pass computes for a sum and a later one would compute again is left where the later one's result goes: softmax computes each exp once.

        Returns the stores of that, with the passes that make them.
        """
        known: dict[Expr, int] = {}
        kept: list[tuple[int, _Store]] = []
        for s in self.stores.values():
            if s.row or s.rewrites or elements(self.sizes[self.split:]) * s.access.dtype.itemsize > KEPT_ROW:
                continue
            at = needs(s.value, ready, known)
            made = {x: phase[r.number] for r in reversed(self.reductions) if phase[r.number] < at for x in nodes(r.value)}
            dear = [x for x in nodes(s.value) if x in made and x.op != "load" and x.dtype is s.access.dtype and cost(x) >= DEAR]
            if dear:
                most = max(dear, key=cost)
                kept.append((made[most], _Store(s.access, most, False)))
                load = ir.make("load", most.dtype, (), s.access)
                s.value = ir.rewrite(s.value, lambda x, most=most, load=load: load if x is most else None)  # type: ignore[misc]
        return kept

    def stages(self) -> list[Any]:
        """What happens in a row, in order: definitions, passes over the columns, stores."""
        ready, phase, last = self.phases()
        kept = self.keep(ready, phase)
        known: dict[Expr, int] = {}
        out: list[Any] = []
        full = [s for s in self.stores.values() if not s.row]
        # a store over something that the group loads must wait for the last pass, which is the last to load it
        at = {id(s): last if s.rewrites else needs(s.value, ready, known) for s in full}
        top = max([last + 1, *ready.values()], default=0)
        for k in range(top + 1):
            out += [("define", n, e) for n, e in self.rows.items() if ready[n] == k]
            reductions = [r for r in self.reductions if phase[r.number] == k]
            writes = [s for s in full if at[id(s)] == k] + [s for n, s in kept if n == k]
            if reductions or writes:
                out.append(("loop", reductions, writes))
        out += [("store", s) for s in self.stores.values() if s.row]
        return out


def needs(e: Expr, ready: dict[int, int], known: dict[Expr, int]) -> int:
    """The first phase in which ``e`` can be computed."""
    phase = known.get(e)
    if phase is None:
        phase = max((ready[x.attr] for x in nodes(e) if x.op == "row"), default=0)
        known[e] = phase
    return phase


def widen(e: Expr, rank: int, memo: dict[Expr, Expr]) -> Expr:
    """``e`` with every access over ``rank`` axes."""
    for x in nodes(e):
        if x in memo:
            continue
        if x.op == "load" or x.args:
            args = tuple([memo[a] for a in x.args])
            if x.op == "load":
                memo[x] = ir.make("load", x.dtype, args, padded(x.attr, rank))
            else:
                memo[x] = x if all(a is b for a, b in zip(args, x.args, strict=True)) else ir.make(x.op, x.dtype, args, x.attr)
        else:
            memo[x] = x
    return memo[e]


def lower_group(g: Group, wanted: Callable[[int], bool], locate: Callable[[int], int],
                vector_bytes: int) -> Launchable | None:
    """The kernel of a group, or None when nothing of it is wanted.

    Parameters
    ----------
    wanted
        Whether a slot that the group writes is read after it.
    locate
        The slot whose memory a slot has.
    vector_bytes
        Width of a vector register.
    """
    if g.closed:
        stages, sizes, split = _solo(g.items[0])
    else:
        body = Body(g, wanted)
        if not body.stores:
            return None
        stages, sizes, split = body.stages(), list(body.sizes), body.split
    return _Assembly(g, stages, list(sizes), split, locate, vector_bytes).finish()


def _solo(item: Item) -> tuple[list[Any], list[int], int]:
    n = len(item.sizes)
    if item.kind == "scan":
        finish = item.finish if item.finish is not None else ir.acc(item.value.dtype)
        return [("scan", item.store, item.combine, item.value, finish)], list(item.sizes), n - 1
    target = item.target if item.target is not None else ir.const(0, ir.int64)
    return [("scatter", item.store, item.combine, item.value, target, item.guard)], list(item.sizes), 0


def lower_epilogue(g: Group, roles: list[int], wanted: Callable[[int], bool], locate: Callable[[int], int],
                   vector_bytes: int) -> tuple[Launchable, tuple[int, ...]] | None:
    """The maps that follow a product, as a kernel whose axes are those of the product, and the role of each of its axes.

    ``roles`` are those of the group's axes; None when their axes do not merge as the product's do.
    """
    body = Body(Group(g.sizes, items=g.items[1:]), wanted)
    assembly = _Assembly(g, body.stages(), list(body.sizes), body.split, locate, vector_bytes, list(roles))
    made = assembly.finish()
    return (made, tuple(assembly.roles)) if len(set(assembly.roles)) == len(assembly.roles) else None


def followed(kernel: Form, words: list[Any], g: Group, roles: list[int], wanted: Callable[[int], bool], locate: Callable[[int], int],
             vector_bytes: int, inside: bool = True) -> tuple[Form, frozenset[int], list[Launchable]]:
    """A product's kernel with the maps that follow it: as its epilogue, whose words are added to its ``words``, or (always, if not ``inside``)
    launched after it.  Returns the kernel, the slots that it writes, and what is launched after it.
    """
    written = frozenset([g.items[0].store.slot])
    if len(g.items) == 1:
        return kernel, written, []
    lowered = lower_epilogue(g, roles, wanted, locate, vector_bytes) if inside else None
    if lowered is not None:
        epilogue, axes = lowered
        assert isinstance(epilogue.kernel, Kernel)
        words += epilogue.words
        return replace(kernel, epilogue=epilogue.kernel, roles=axes), written | epilogue.stored, []
    after = lower_group(Group(g.sizes, items=g.items[1:]), wanted, locate, vector_bytes)
    return kernel, written, [] if after is None else [after]


class _Assembly:
    """The last step: choose axes and lanes, number places and words.

    ``roles``: of a product's epilogue, what each axis is to the product; only axes of one role are merged, and the last has the lanes.
    """

    def __init__(self, g: Group, stages: list[Any], sizes: list[int], split: int, locate: Callable[[int], int],
                 vector_bytes: int, roles: list[int] | None = None) -> None:
        self.roles = roles or []
        self.group, self.stages, self.sizes, self.split = g, stages, sizes, split
        self.locate, self.vector_bytes = locate, vector_bytes
        self.words: list[Any] = []
        self.word_of: dict[Any, int] = {}
        self.places: list[Place] = []
        self.place_of: dict[tuple[Any, ...], int] = {}
        self.memo: dict[Expr, Expr] = {}

    # every expression and every access of the stages
    def roots(self) -> list[Expr]:
        out: list[Expr] = []
        for s in self.stages:
            if s[0] == "define":
                out.append(s[2])
            elif s[0] == "loop":
                out += [r.value for r in s[1]] + [w.value for w in s[2]]
            elif s[0] == "store":
                out.append(s[1].value)
            elif s[0] == "scan":
                out += [s[3], s[4]]
            else:
                out += [e for e in s[3:] if e is not None]
        return out

    def all_nodes(self) -> list[Expr]:
        """Every node of every expression, each once."""
        return list(dict.fromkeys(x for root in self.roots() for x in nodes(root)))

    def stored(self) -> list[Access]:
        out: list[Access] = []
        for s in self.stages:
            if s[0] == "loop":
                out += [w.access for w in s[2]]
            elif s[0] == "store":
                out.append(s[1].access)
            elif s[0] in ("scan", "scatter"):
                out.append(s[1])
        return out

    def finish(self) -> Launchable:
        used = self.all_nodes()
        accesses = list(dict.fromkeys([x.attr for x in used if x.op == "load"] + self.stored()))
        pinned = {x.attr for x in used if x.op == "axis"}
        kind = self.stages[0][0] if self.stages else "store"
        sequential = kind in ("scan", "scatter")
        pure_map = not sequential and self.split == len(self.sizes)
        self.merge(accesses, pinned, sequential, pure_map)
        accesses = list(dict.fromkeys([x.attr for x in self.all_nodes() if x.op == "load"] + self.stored()))
        if pure_map and self.sizes:
            self.split = len(self.sizes) - 1
        lanes = self.vector_bytes // 4
        if not any(x.dtype.itemsize == 4 or x.dtype.itemsize == 2 for x in used if x.dtype is not ir.int64) and any(
                x.dtype in (ir.float64, ir.int64) for x in used):
            lanes = self.vector_bytes // 8
        lane = len(self.sizes) - 1 if self.roles else self.choose_lane(accesses, kind, pure_map, lanes)
        reductions = any(s[0] == "loop" and s[1] for s in self.stages)
        total = elements(self.sizes)
        large = total >= LARGE and not sequential and not self.roles       # an epilogue runs on short strips
        jam = self.choose_jam(accesses, lane) if reductions else -1
        cascade = self.choose_cascade(lane, lanes) if large and reductions else -1
        tiled = large and pure_map and not self.roles and self.choose_tiles(accesses, lane, lanes)
        # one row cannot be shared out when it has results of its own
        alone = reductions or sequential or any(s[0] == "store" for s in self.stages)
        divisible = bool(self.sizes) and kind != "scatter" and (self.split > 0 or not alone)
        sizes = tuple(self.word(n) for n in self.sizes)
        unit, units = -1, 1
        if divisible:
            inner = max(1, total // self.sizes[0])
            block = max(1, GRAIN // inner)
            if lane == 0:
                block = -(-block // (4 * lanes)) * (4 * lanes)
            elif tiled or jam == 0:
                block = -(-block // lanes) * lanes
            unit = self.word(block)
            units = -(-self.sizes[0] // block)
        ragged = self.word(self.group.ragged) if self.group.ragged else -1
        self.lane = lane
        self.tiled = tiled
        stages = tuple(self.stage(s) for s in self.stages)
        kernel = Kernel(len(self.sizes), self.split, lane, lanes, sizes, unit, ragged, large, jam, cascade, tiled, tuple(self.places), stages)
        return Launchable(kernel, tuple(self.words), units, frozenset(x.slot for x in self.stored()))

    # ------------------------------------------------------------ axes

    def remap(self, terms: tuple[Term, ...], rank: int) -> None:
        """Rewrite every stage over other axes."""
        memo: dict[Expr, Expr] = {}

        def go(e: Any) -> Any:
            return None if e is None else move(e, terms, rank, memo)

        def access(x: Access) -> Access:
            return move_access(x, terms, rank)
        new: list[Any] = []
        for s in self.stages:
            if s[0] == "define":
                new.append(("define", s[1], go(s[2])))
            elif s[0] == "loop":
                new.append(("loop", [_Reduction(r.number, r.combine, go(r.value)) for r in s[1]],
                            [_Store(access(w.access), go(w.value), w.row) for w in s[2]]))
            elif s[0] == "store":
                new.append(("store", _Store(access(s[1].access), go(s[1].value), True)))
            elif s[0] == "scan":
                new.append(("scan", access(s[1]), s[2], go(s[3]), go(s[4])))
            else:
                new.append(("scatter", access(s[1]), s[2], go(s[3]), go(s[4]), go(s[5])))
        self.stages = new

    def merge(self, accesses: list[Access], pinned: set[int], sequential: bool, pure_map: bool) -> None:
        """Merge neighbouring axes that are one run for every access."""
        sizes, split = list(self.sizes), self.split
        columns = [list(x.strides[:len(sizes)]) for x in accesses]
        parts = [[a] for a in range(len(sizes))]
        i = len(sizes) - 2
        while i >= 0:
            border = (not pure_map and i == split - 1) or (self.roles and self.roles[i] != self.roles[i + 1])
            if not border and not self.group.ragged and not (pinned & {*parts[i], *parts[i + 1]}) \
                    and all(s[i] == s[i + 1] * sizes[i + 1] for s in columns):
                sizes[i:i + 2] = [sizes[i] * sizes[i + 1]]
                for s in columns:
                    s[i:i + 2] = [s[i + 1]]
                parts[i:i + 2] = [parts[i] + parts[i + 1]]
                del self.roles[i:i + 1]
                if i < split:
                    split -= 1
            i -= 1
        if len(sizes) == len(self.sizes):
            return
        terms: list[Term] = [(0, ())] * len(self.sizes)
        rank = len(sizes)
        for k, part in enumerate(parts):
            for a in part:
                # merged axes: the innermost one carries the whole index, the others are 0
                terms[a] = (0, tuple([int(k == j and a == part[-1]) for j in range(rank)]))
        self.remap(tuple(terms), rank)
        self.sizes, self.split = sizes, split

    def choose_lane(self, accesses: list[Access], kind: str, pure_map: bool, lanes: int) -> int:
        """Pick the axis that vectors run along and make it the last row or the last column; -1 for scalar code."""
        n, split = len(self.sizes), self.split
        if n == 0:
            return -1
        if kind == "scatter":
            s = self.stages[0]
            if s[1].strides[n - 1] != 0 and self.sizes[n - 1] >= 4 and not any(
                    varies(e, n - 1) for e in (s[4], s[5]) if e is not None):
                return n - 1
            return -1
        if kind == "scan":
            candidates = list(range(split))
        else:
            candidates = list(range(1 if self.group.ragged and n == 3 else 0, n))      # chunks stay the outermost axis
        if elements(self.sizes) < 4 and kind != "scan":
            return -1
        best, best_cost = -1, float("inf")
        stored = set(self.stored())
        loop_reductions = sum(len(s[1]) for s in self.stages if s[0] == "loop")
        columns = elements(self.sizes[split:])
        for a in candidates:
            size = self.sizes[a]
            efficiency = size / (-(-size // lanes) * lanes)
            c = 0.5
            for x in accesses:
                stride = abs(x.strides[a]) if a < len(x.strides) else 0
                c += 0.2 if stride == 0 else 1.0 if stride == 1 else (2.0 if x in stored else 1.6) * lanes
            c /= efficiency
            if loop_reductions and a >= split and split > 0:
                c += 3.0 * loop_reductions * lanes / columns / efficiency
            if a < split and not pure_map and columns > 4096:
                c *= 2      # a strip of many columns leaves the cache
            if c < best_cost - 1e-9 or (c <= best_cost + 1e-9 and a == n - 1):
                best, best_cost = a, c
        if kind == "scan" and best >= 0 and (best_cost > 1.7 * lanes or self.sizes[best] < 4):
            best = -1
        if best < 0:
            return -1
        border = split if best < split and not pure_map else n
        if pure_map and not self.group.ragged:
            order = [a for a in range(n) if a != best] + [best]
        else:
            first = 0 if best < split else split
            group_axes = [a for a in range(first, border) if a != best] + [best]
            order = [*range(first), *group_axes, *range(border, n)]
        if order != list(range(n)):
            self.permute(order)
        return order.index(best)

    def choose_jam(self, accesses: list[Access], lane: int) -> int:
        """A row axis whose positions share vectors that they load, as the rows of a product do; moved before the lanes. Or -1."""
        n, split = len(self.sizes), self.split
        rows = [a for a in range(split) if a != lane and self.sizes[a] >= 4 and not (self.group.ragged and a == 0)]
        loops = [s for s in self.stages if s[0] == "loop"]
        if lane < 0 or not rows or len(loops) != 1 or len(loops[0][1]) > 2 or loops[0][2] or cost(loops[0][1][0].value) > 60:
            return -1
        loaded = {x.attr for r in loops[0][1] for x in nodes(r.value) if x.op == "load"}
        shared = {a: sum(1 for x in loaded if any(x.strides[split:n]) and x.strides[lane] and not x.strides[a]) for a in rows}
        jam = max(rows, key=lambda a: (shared[a], a))
        if not shared[jam]:
            return -1
        last = [jam, lane] if lane < split else [jam]
        order = [a for a in range(split) if a not in last] + last + list(range(split, n))
        if order != list(range(n)):
            if self.group.ragged and order[0] != 0:
                return -1
            self.permute(order)
        return order.index(jam)

    def choose_cascade(self, lane: int, lanes: int) -> int:
        """The column axis along which floating-point sums are long enough to be taken in blocks, or -1."""
        if not any(r.combine == "sum" and r.value.dtype.is_floating_point for s in self.stages if s[0] == "loop" for r in s[1]):
            return -1
        trips = {a: self.sizes[a] // lanes if a == lane else self.sizes[a] for a in range(self.split, len(self.sizes))}
        axis = max(trips, key=lambda a: trips[a])
        return axis if trips[axis] > LONG_SUM else -1

    def choose_tiles(self, accesses: list[Access], lane: int, lanes: int) -> bool:
        """Whether loads that are contiguous away from the lanes come as transposed tiles; moves their axis beside the lanes."""
        n = len(self.sizes)
        if n < 2 or lane != n - 1 or len(self.stages) != 1 or self.stages[0][0] != "loop":
            return False
        stored = set(self.stored())
        across = {x for x in accesses if x not in stored and x.strides[lane] not in (0, 1)}
        axes = {a for x in across for a in range(n - 1) if x.strides[a] == 1 and self.sizes[a] >= lanes}
        if len(axes) != 1 or self.sizes[lane] < lanes or len(across) > 2 or sum(cost(e) for e in self.roots()) > 24 \
                or any(x.op == "load" and x.args for x in self.all_nodes()):
            return False
        tile = axes.pop()
        order = [a for a in range(n - 1) if a != tile] + [tile, lane]
        if order != list(range(n)):
            self.permute(order)
        return True

    def permute(self, order: list[int]) -> None:
        """Put old axis ``order[k]`` at ``k``."""
        place = {old: k for k, old in enumerate(order)}
        n = len(order)
        self.remap(tuple((0, tuple([int(place[a] == k) for k in range(n)])) for a in range(n)), n)
        self.sizes = [self.sizes[a] for a in order]

    # ------------------------------------------------------------ words and places

    def word(self, value: int | Later) -> int:
        """A new argument word."""
        self.words.append(value)
        return len(self.words) - 1

    def place(self, x: Access) -> int:
        n = len(self.sizes)
        strides = x.strides[:n]
        k = (x.slot, x.offset, strides, x.dtype, None if x.fill is None else (x.fill, x.fill.__class__))
        number = self.place_of.get(k)
        if number is None:
            size = x.dtype.itemsize
            table_word, offset_word = self.word(Later("slot", self.locate(x.slot))), self.word(x.offset * size)
            codes = []
            for a, s in enumerate(strides):
                if s == 0:
                    codes.append(INVARIANT)
                elif s == 1 and (a == self.lane or (self.tiled and a == n - 2)):
                    codes.append(UNIT)
                else:
                    codes.append(self.word(s * size))
            number = self.place_of[k] = len(self.places)
            self.places.append(Place(x.dtype, table_word, offset_word, tuple(codes), x.fill))
        return number

    def expr(self, root: Expr) -> Expr:
        """An expression with accesses, scalars and constants replaced by places and words."""
        memo = self.memo
        order = nodes(root)
        kept: set[Expr] = set()
        for x in order:
            if x.op == "pow" or x.op in ("shl", "shr", "ushr"):
                kept.add(x.args[1])          # worth more as a constant
        for x in order:
            if x in memo:
                continue
            if x.op == "load":
                memo[x] = ir.make("load", x.dtype, tuple([memo[a] for a in x.args]), self.place(x.attr))
            elif x.op == "scalar":
                memo[x] = ir.make("scalar", x.dtype, (), self.shared(("scalar", x.attr), Later("scalar", x.attr)))
            elif x.op == "const":
                memo[x] = x if x in kept or x.attr in _PLAIN or x.attr != x.attr or x.dtype.itemsize < 4 else \
                    ir.make("arg", x.dtype, (), self.shared(x, as_word(x.attr)))
            elif x.op == "value":
                memo[x] = ir.make("arg", x.dtype, (), self.shared(x, as_word(x.attr)))
            elif x.op == "checked":
                memo[x] = ir.make("checked", x.dtype, tuple([memo[a] for a in x.args]), self.shared(("site", x.attr), Later("site", x.attr)))
            elif x.args:
                args = tuple([memo[a] for a in x.args])
                memo[x] = x if all(a is b for a, b in zip(args, x.args, strict=True)) else ir.make(x.op, x.dtype, args, x.attr)
            else:
                memo[x] = x
        return memo[root]

    def shared(self, k: Any, value: int | Later) -> int:
        number = self.word_of.get(k)
        if number is None:
            number = self.word_of[k] = self.word(value)
        return number

    def stage(self, s: tuple[Any, ...]) -> Stage:
        """A stage in its final form."""
        if s[0] == "define":
            return Define(s[1], self.expr(s[2]))
        if s[0] == "loop":
            return Loop(tuple(Reduction(r.number, r.combine, self.expr(r.value)) for r in s[1]),
                        tuple(Write(self.place(w.access), self.expr(w.value)) for w in s[2]))
        if s[0] == "store":
            return Write(self.place(s[1].access), self.expr(s[1].value))
        if s[0] == "scan":
            return Scan(self.place(s[1]), s[2], self.expr(s[3]), self.expr(s[4]))
        return Scatter(self.place(s[1]), s[2], self.expr(s[3]), self.expr(s[4]), None if s[5] is None else self.expr(s[5]))


def as_word(value: float | int | bool) -> int:
    """A number as the 64 bits of an argument word."""
    if isinstance(value, float):
        return int(struct.unpack("<q", struct.pack("<d", value))[0])
    return int(value)


def varies(e: Expr, axis: int) -> bool:
    """Whether ``e`` depends on an axis."""
    return any((x.op == "axis" and x.attr == axis) or (x.op == "load" and axis < len(x.attr.strides) and x.attr.strides[axis] != 0)
               for x in nodes(e))
