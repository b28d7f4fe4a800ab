"""Products among the nests: which sums of products are worth the product engine, and how one is blocked.

A nest ``C[...] = Σ A[...] · B[...]`` is told by its axes: a kept axis moves through A (rows), through B (columns) or through both (the
batch); reduced axes move through both.  :func:`products` brings such a nest into the form that :mod:`..render.product` has code for:
operands of another type, or without a unit stride where one is needed, are copied first, results of another layout or type are
written by a map that follows (and that becomes part of the product's epilogue).  :func:`blocked` chooses units and blocks from
the sizes alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..core.dtype import dtype
from ..ir import expression as ir
from ..ir.expression import Access, Expr
from ..ir.product import Product, Words
from ..ir.simplify import nodes
from .fuse import Group, Item, elements, row_major
from .tile import Launchable, lower_epilogue, lower_group

WORTH = 1 << 16             # multiply-adds from which packing pays
NARROW = 2                  # rows or columns up to which memory decides: the loops stream better
K_BYTES = 2048              # of k in a block: a panel of A fills the first-level cache by half
BLOCK_BYTES = 720 << 10     # of B in a block: a third of the second-level cache
UNIT = 1 << 20              # multiply-adds of a parallel unit, at least
MOST_UNITS = 64
PANELS = 8                  # of rows in a unit, at least: what packing B is shared by


@dataclass(slots=True)
class Roles:
    """The axes of a product: numbers into the nest's axes, outermost first; each list but ``batch`` is one run for all operands."""

    batch: list[int]
    rows: list[int]
    columns: list[int]
    inner: list[int]
    a: Access
    b: Access


def factors(item: Item) -> tuple[Expr, Expr] | None:
    """The two loads whose product the item sums, or None."""
    if item.kind != "reduce" or item.combine != "sum" or item.value.op != "mul" or item.value.dtype.itemsize < 4 or item.value.dtype is ir.bool_:
        return None
    found = []
    for x in item.value.args:
        load = x.args[0] if x.op == "cast" else x
        if load.op != "load" or load.args or (x.op == "cast" and not (x.dtype.is_floating_point and load.dtype.is_floating_point)):
            return None
        found.append(load)
    return found[0], found[1]


def products(item: Item, temporary: Callable[[int], int]) -> list[Item]:
    """The item itself, or copies of operands, the product in the engine's form, and a map that stores its result."""
    found = factors(item)
    if found is None or elements(item.sizes) < WORTH:
        return [item]
    roles = _roles(item, found[0].attr, found[1].attr)
    if roles is None:
        return [item]
    sizes, d = item.sizes, item.value.dtype
    rows, columns = (elements([sizes[a] for a in axes]) for axes in (roles.rows, roles.columns))
    if min(rows, columns) <= NARROW:
        return [item]
    out: list[Item] = []
    accesses: list[Access] = []
    for x, own, units in ((roles.a, roles.rows, (roles.inner, roles.rows)), (roles.b, roles.columns, (roles.columns, roles.inner))):
        if x.dtype is d and _run(x, roles.inner, sizes) and _run(x, own, sizes) and any(x.strides[axes[-1]] == 1 for axes in units if axes):
            accesses.append(x)
            continue
        order = [a for a in roles.batch if x.strides[a]] + (own + roles.inner if own is roles.rows else roles.inner + own)
        made = tuple(sizes[a] for a in order)
        slot = temporary(elements(made) * d.itemsize)
        load = ir.make("load", x.dtype, (), Access(x.slot, x.offset, tuple(x.strides[a] for a in order), x.dtype))
        copy = Item("map", made, len(made), load if x.dtype is d else load.cast(d), Access(slot, 0, row_major(made), d), "", None, None, None, item.step)
        copy.scan_loads()
        out.append(copy)
        steps = dict(zip(order, row_major(made), strict=True))
        accesses.append(Access(slot, 0, tuple(steps.get(a, 0) for a in range(len(sizes))), d))
    a, b = (ir.make("load", d, (), x) for x in accesses)
    product = replace(item, value=a * b, product=True)
    plain = item.finish is None or item.finish.op == "acc"
    in_place = item.store.slot in (a.attr.slot, b.attr.slot)
    if plain and item.store.dtype is d and item.store.strides[item.kept - 1] == 1 and not in_place:
        product.finish = None
        product.scan_loads()
        return [*out, product]
    made = sizes[:item.kept]
    slot = temporary(elements(made) * d.itemsize)
    place = Access(slot, 0, row_major(made), d)
    product.store, product.finish = place._replace(strides=place.strides + (0,) * (len(sizes) - len(made))), None
    product.scan_loads()
    result = ir.make("load", d, (), place)
    value = result if item.finish is None else ir.rewrite(item.finish, lambda x: result if x.op == "acc" else None)
    last = Item("map", made, len(made), value, item.store._replace(strides=item.store.strides[:len(made)]), "", None, None, None, item.step)
    last.scan_loads()
    return [*out, product, last]


def _roles(item: Item, x: Access, y: Access) -> Roles | None:
    """The axes by role, with the factor that moves along the last kept axis as B; None when this is no product."""
    kept, n = item.kept, len(item.sizes)
    if kept == 0 or any(e.op == "axis" for e in nodes(item.value)):
        return None
    last = kept - 1
    if bool(x.strides[last]) == bool(y.strides[last]):
        return None
    a, b = (x, y) if y.strides[last] else (y, x)
    inner = list(range(kept, n))
    if not inner or any(not a.strides[k] or not b.strides[k] for k in inner):
        return None
    # reduced axes may be taken in any order: in the one in which a factor has them as one run, if there is one
    for f in (b, a):
        order = sorted(inner, key=lambda k: -abs(f.strides[k]))
        if _run(f, order, item.sizes):
            inner = order
            break
    rows: list[int] = []
    columns: list[int] = []
    batch: list[int] = []
    # from the last axis outwards: columns as long as they are one run, then rows likewise; the rest is batch
    for axis in reversed(range(kept)):
        if b.strides[axis] and not a.strides[axis] and not rows and not batch and _joins(axis, columns, (b, item.store), item.sizes):
            columns.insert(0, axis)
        elif a.strides[axis] and not b.strides[axis] and not batch and _joins(axis, rows, (a, item.store), item.sizes):
            rows.insert(0, axis)
        else:
            batch.insert(0, axis)
    if not rows:                # the rows may lie outside of batch axes
        of_a = [axis for axis in batch if a.strides[axis] and not b.strides[axis]]
        if of_a:
            rows = [max(of_a, key=lambda axis: item.sizes[axis])]
            batch.remove(rows[0])
    return Roles(batch, rows, columns, inner, a, b)


def _joins(axis: int, axes: Sequence[int], accesses: Sequence[Access], sizes: Sequence[int]) -> bool:
    """Whether an axis and those right inside it are one run of every access."""
    return not axes or (axes[0] == axis + 1 and all(x.strides[axis] == x.strides[axes[0]] * sizes[axes[0]] for x in accesses))


def _run(x: Access, axes: Sequence[int], sizes: Sequence[int]) -> bool:
    """Whether an access goes evenly through some axes."""
    return all(x.strides[i] == x.strides[j] * sizes[j] for i, j in zip(axes, axes[1:], strict=False))


# ---------------------------------------------------------------- blocking

@dataclass(slots=True)
class Blocked:
    """Sizes of a product and how it is cut; all of it follows from the shape and the type."""

    m: int
    n: int
    k: int
    k_block: int
    n_block: int
    m_unit: int
    n_unit: int
    m_units: int
    n_units: int
    units: int


def blocked(m: int, n: int, k: int, batch: int, d: dtype, tile_rows: int, tile_columns: int) -> Blocked:
    """Units and blocks of a product."""
    k_blocks = -(-k // (K_BYTES // d.itemsize))
    k_block = -(-k // k_blocks)
    if k_blocks > 1:
        k_block = -(-k_block // 16) * 16
    wanted = max(1, min(MOST_UNITS, batch * m * n * k // UNIT))
    wanted = -(-wanted // batch)
    m_units = max(1, min(wanted, m // (PANELS * tile_rows)))
    n_units = max(1, min(-(-wanted // m_units), n // (2 * tile_columns)))
    m_unit = _even(m, m_units, tile_rows)
    n_unit = _even(n, n_units, tile_columns)
    n_block = max(1, BLOCK_BYTES // (k_block * d.itemsize * tile_columns)) * tile_columns
    n_block = _even(n_unit, -(-n_unit // n_block), tile_columns)
    m_units, n_units = -(-m // m_unit), -(-n // n_unit)
    return Blocked(m, n, k, k_block, n_block, m_unit, n_unit, m_units, n_units, batch * m_units * n_units)


def _even(size: int, parts: int, step: int) -> int:
    """The size of a part, a multiple of ``step``."""
    return -(-size // (parts * step)) * step


def register_tile(d: dtype, vector_bytes: int) -> tuple[int, int, int]:
    """Lanes, rows and vectors of the register tile: as many accumulators as leave room for a row of B and a broadcast."""
    return vector_bytes // d.itemsize, 6 if vector_bytes == 32 else 14 if vector_bytes == 64 else 12, 2


# ---------------------------------------------------------------- launches

def lower_product(g: Group, wanted: Callable[[int], bool], locate: Callable[[int], tuple[int, int]], scalars: int,
                  vector_bytes: int) -> list[Launchable]:
    """The launches of a group that is a product: one, or a second one for what cannot be its epilogue."""
    item = g.items[0]
    sizes, d = item.sizes, item.value.dtype
    found = _roles(item, item.value.args[0].attr, item.value.args[1].attr)
    assert found is not None
    a, b, c = found.a, found.b, item.store
    lanes, tile_rows, vectors = register_tile(d, vector_bytes)
    m, n, k, batch = (elements([sizes[x] for x in axes]) for axes in (found.rows, found.columns, found.inner, found.batch))
    cut = blocked(m, n, k, batch, d, tile_rows, vectors * lanes)

    def step(x: Access, axes: Sequence[int]) -> int:
        return x.strides[axes[-1]] * d.itemsize if axes else 0
    where = [w for x in (a, b, c) for w in _address(x, locate)]
    words = [*where, m, n, k, step(a, found.rows), step(a, found.inner), step(b, found.inner), step(b, found.columns), step(c, found.rows),
             cut.k_block, cut.n_block, cut.m_unit, cut.n_unit, cut.m_units, cut.n_units]
    assert len(words) == Words.BATCH
    for axis in found.batch:
        words += [sizes[axis], *(x.strides[axis] * d.itemsize for x in (a, b, c))]
    a_unit = "k" if a.strides[found.inner[-1]] == 1 else "row"
    b_unit = "column" if b.strides[found.columns[-1]] == 1 else "k"
    product = Product(d, a_unit, b_unit, len(found.batch), lanes, tile_rows, vectors)
    stored = frozenset([c.slot])
    rest: list[Launchable] = []
    if len(g.items) > 1:
        ranges = {x: i for i, x in enumerate(found.batch)} | dict.fromkeys(found.rows, len(found.batch)) | dict.fromkeys(found.columns, len(found.batch) + 1)
        epilogue = lower_epilogue(g, [ranges[x] for x in range(item.kept)], wanted, locate, scalars, vector_bytes)
        if epilogue is not None:
            made, roles = epilogue
            assert not isinstance(made.kernel, Product)
            product = replace(product, epilogue=made.kernel, roles=roles)
            words += made.words
            stored |= made.stored
        else:
            after = lower_group(Group(g.sizes, items=g.items[1:]), wanted, locate, scalars, vector_bytes)
            rest = [] if after is None else [after]
    return [Launchable(product, tuple(words), cut.units, stored), *rest]


def _address(x: Access, locate: Callable[[int], tuple[int, int]]) -> tuple[int, int]:
    table, offset = locate(x.slot)
    return table, offset + x.offset * x.dtype.itemsize
