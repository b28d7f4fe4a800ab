"""The Mersenne Twister MT19937 (Matsumoto and Nishimura, 1998) as machine code: the next draws are written straight to where they are wanted.

A state is 642 words of 32 bits: the 624 of the algorithm; the first 16 of them again, so that vectors may reach past the end; the number of the
next one to give out, and one more so that the size is even.  That number is 624 where the words are used up, :data:`FRESH` where in addition nothing
was drawn since seeding, and :data:`SEEDED` where the first word is the seed and the others are still to be made.  Where nothing can be compiled the
generator of Python's C library takes over; the state is the same.
"""

from __future__ import annotations

import ctypes
from _random import Random  # the C class alone: the module ``random`` takes milliseconds to import
from _thread import RLock
from collections.abc import Callable
from struct import Struct
from typing import Any

from ..core import config
from . import builtin, cpu

WORDS = 624
_MIRROR = 16
NEXT = WORDS + _MIRROR          # where in a state the number of the next word stands
FRESH, SEEDED = WORDS + 1, WORDS + 2
State = ctypes.c_uint32 * (NEXT + 2)

_pack = Struct("=qqq").pack     # address of a state, of where the draws go, how many
_unpack = Struct("=qqq").unpack


def _vector(value: int, bits: str = "i32") -> str:
    return "<" + ", ".join([f"{bits} {value}"] * 16) + ">"


def _step(name: str, distance: int) -> str:
    """Sixteen new words from number %k on; ``distance``: to the words that are mixed in."""
    return f"""
  %{name}.at = getelementptr i32, ptr %state, i64 %{name}.k
  %{name}.next = getelementptr i32, ptr %{name}.at, i64 1
  %{name}.far = getelementptr i32, ptr %{name}.at, i64 {distance}
  %{name}.u = load <16 x i32>, ptr %{name}.at, align 4
  %{name}.v = load <16 x i32>, ptr %{name}.next, align 4
  %{name}.w = load <16 x i32>, ptr %{name}.far, align 4
  %{name}.high = and <16 x i32> %{name}.u, {_vector(-0x80000000)}
  %{name}.low = and <16 x i32> %{name}.v, {_vector(0x7FFFFFFF)}
  %{name}.y = or <16 x i32> %{name}.high, %{name}.low
  %{name}.half = lshr <16 x i32> %{name}.y, {_vector(1)}
  %{name}.odd = and <16 x i32> %{name}.v, {_vector(1)}
  %{name}.mask = sub <16 x i32> zeroinitializer, %{name}.odd
  %{name}.matrix = and <16 x i32> %{name}.mask, {_vector(0x9908B0DF - (1 << 32))}
  %{name}.z = xor <16 x i32> %{name}.half, %{name}.matrix
  %{name}.new = xor <16 x i32> %{name}.z, %{name}.w
  store <16 x i32> %{name}.new, ptr %{name}.at, align 4"""


def _tempered(name: str, kind: str) -> str:
    """%NAME.y from %NAME.x, a word or a vector of them (``kind``)."""
    def all_of(value: int) -> str:
        return str(value) if kind == "i32" else _vector(value)

    return f"""
  %{name}.a = lshr {kind} %{name}.x, {all_of(11)}
  %{name}.b = xor {kind} %{name}.x, %{name}.a
  %{name}.c = shl {kind} %{name}.b, {all_of(7)}
  %{name}.d = and {kind} %{name}.c, {all_of(0x9D2C5680 - (1 << 32))}
  %{name}.e = xor {kind} %{name}.b, %{name}.d
  %{name}.f = shl {kind} %{name}.e, {all_of(15)}
  %{name}.g = and {kind} %{name}.f, {all_of(0xEFC60000 - (1 << 32))}
  %{name}.h = xor {kind} %{name}.e, %{name}.g
  %{name}.i = lshr {kind} %{name}.h, {all_of(18)}
  %{name}.y = xor {kind} %{name}.h, %{name}.i"""


_DRAW = f"""
define void @NAME(ptr %arguments) #ATTR {{
entry:
  %state = load ptr, ptr %arguments, align 1
  %out.at = getelementptr i8, ptr %arguments, i64 8
  %out = load ptr, ptr %out.at, align 1
  %n.at = getelementptr i8, ptr %arguments, i64 16
  %n = load i64, ptr %n.at, align 1
  %next.at = getelementptr i32, ptr %state, i64 {NEXT}
  %next0 = load i32, ptr %next.at, align 4
  %unmade = icmp eq i32 %next0, {SEEDED}
  br i1 %unmade, label %seeding, label %outer
seeding:
  %seed = load i32, ptr %state, align 4
  br label %seed.loop
seed.loop:
  %s = phi i32 [ 1, %seeding ], [ %s1, %seed.loop ]
  %before = phi i32 [ %seed, %seeding ], [ %word, %seed.loop ]
  %shifted = lshr i32 %before, 30
  %mixed = xor i32 %before, %shifted
  %times = mul i32 %mixed, 1812433253
  %word = add i32 %times, %s
  %word.at = getelementptr i32, ptr %state, i32 %s
  store i32 %word, ptr %word.at, align 4
  %s1 = add i32 %s, 1
  %seeded = icmp eq i32 %s1, {WORDS}
  br i1 %seeded, label %fresh, label %seed.loop
fresh:
  store i32 {FRESH}, ptr %next.at, align 4
  br label %outer
outer:
  %done = phi i64 [ 0, %entry ], [ 0, %fresh ], [ %done1, %given ]
  %left = sub i64 %n, %done
  %more = icmp sgt i64 %left, 0
  br i1 %more, label %look, label %finished
look:
  %next = load i32, ptr %next.at, align 4
  %used = icmp uge i32 %next, {WORDS}
  br i1 %used, label %twist, label %take
twist:
  br label %first
first:
  %f.k = phi i64 [ 0, %twist ], [ %f.k1, %first ]{_step("f", 397)}
  %start = load <16 x i32>, ptr %state, align 4
  %mirror = getelementptr i32, ptr %state, i64 {WORDS}
  store <16 x i32> %start, ptr %mirror, align 4
  %f.k1 = add i64 %f.k, 16
  %f.more = icmp ult i64 %f.k1, 240
  br i1 %f.more, label %first, label %second
second:
  %g.k = phi i64 [ 240, %first ], [ %g.k1, %second ]{_step("g", -227)}
  %g.k1 = add i64 %g.k, 16
  %g.more = icmp ult i64 %g.k1, {WORDS}
  br i1 %g.more, label %second, label %take
take:
  %from32 = phi i32 [ %next, %look ], [ 0, %second ]
  %from = zext i32 %from32 to i64
  %there = sub i64 {WORDS}, %from
  %fewer = icmp slt i64 %left, %there
  %m = select i1 %fewer, i64 %left, i64 %there
  %source = getelementptr i32, ptr %state, i64 %from
  %target = getelementptr i32, ptr %out, i64 %done
  br label %vectors
vectors:
  %j = phi i64 [ 0, %take ], [ %j1, %vector ]
  %j1 = add i64 %j, 16
  %whole = icmp sle i64 %j1, %m
  br i1 %whole, label %vector, label %rest
vector:
  %v.at = getelementptr i32, ptr %source, i64 %j
  %v.x = load <16 x i32>, ptr %v.at, align 4{_tempered("v", "<16 x i32>")}
  %v.to = getelementptr i32, ptr %target, i64 %j
  store <16 x i32> %v.y, ptr %v.to, align 4
  br label %vectors
rest:
  %i = phi i64 [ %j, %vectors ], [ %i1, %single ]
  %some = icmp slt i64 %i, %m
  br i1 %some, label %single, label %given
single:
  %w.at = getelementptr i32, ptr %source, i64 %i
  %w.x = load i32, ptr %w.at, align 4{_tempered("w", "i32")}
  %w.to = getelementptr i32, ptr %target, i64 %i
  store i32 %w.y, ptr %w.to, align 4
  %i1 = add i64 %i, 1
  br label %rest
given:
  %upto = add i64 %from, %m
  %upto32 = trunc i64 %upto to i32
  store i32 %upto32, ptr %next.at, align 4
  %done1 = add i64 %done, %m
  br label %outer
finished:
  ret void
}}
"""

# Fisher and Yates, from the front: number i changes places with one of the n - i that are left
_SHUFFLE = """
define void @NAME(ptr %arguments) #ATTR {
entry:
  %words = load ptr, ptr %arguments, align 1
  %out.at = getelementptr i8, ptr %arguments, i64 8
  %out = load ptr, ptr %out.at, align 1
  %n.at = getelementptr i8, ptr %arguments, i64 16
  %n = load i64, ptr %n.at, align 1
  br label %count
count:
  %c = phi i64 [ 0, %entry ], [ %c1, %counting ]
  %c.more = icmp slt i64 %c, %n
  br i1 %c.more, label %counting, label %order
counting:
  %c.at = getelementptr i64, ptr %out, i64 %c
  store i64 %c, ptr %c.at, align 8
  %c1 = add i64 %c, 1
  br label %count
order:
  %i = phi i64 [ 0, %count ], [ %i1, %exchange ]
  %left = sub i64 %n, %i
  %more = icmp sgt i64 %left, 1
  br i1 %more, label %exchange, label %finished
exchange:
  %word.at = getelementptr i32, ptr %words, i64 %i
  %word = load i32, ptr %word.at, align 4
  %wide = zext i32 %word to i64
  %jump = urem i64 %wide, %left
  %j = add i64 %i, %jump
  %i.at = getelementptr i64, ptr %out, i64 %i
  %j.at = getelementptr i64, ptr %out, i64 %j
  %x = load i64, ptr %i.at, align 8
  %y = load i64, ptr %j.at, align 8
  store i64 %y, ptr %i.at, align 8
  store i64 %x, ptr %j.at, align 8
  %i1 = add i64 %i, 1
  br label %order
finished:
  ret void
}
"""


_lock = RLock()


def _drawn_plainly(arguments: bytes) -> None:
    with _lock:         # machine code is one step for other threads
        _draw_plainly(*_unpack(arguments))


def _draw_plainly(address: int, out: int, n: int) -> None:
    state = State.from_address(address)
    if state[NEXT] == SEEDED:
        word = state[0]
        for i in range(1, WORDS):
            word = state[i] = (1812433253 * (word ^ (word >> 30)) + i) & 0xFFFFFFFF
        state[NEXT] = FRESH
    if n <= 0:
        return
    source = Random(0)
    source.setstate((*state[:WORDS], min(state[NEXT], WORDS)))
    for start in range(0, n, 1 << 18):
        m = min(n - start, 1 << 18)
        ctypes.memmove(out + 4 * start, source.getrandbits(32 * m).to_bytes(4 * m, "little"), 4 * m)
    *words, following = source.getstate()
    state[:WORDS], state[NEXT] = list[Any](words), following


def _shuffled_plainly(arguments: bytes) -> None:
    address, out, n = _unpack(arguments)
    order = (ctypes.c_int64 * n).from_address(out)
    order[:] = range(n)
    for i, word in enumerate((ctypes.c_uint32 * max(0, n - 1)).from_address(address)):
        j = i + word % (n - i)
        order[i], order[j] = order[j], order[i]


_functions: tuple[Callable[[bytes], None], Callable[[bytes], None]] | None = None


def _chosen() -> tuple[Callable[[bytes], None], Callable[[bytes], None]]:
    global _functions
    _functions = _drawn_plainly, _shuffled_plainly
    if config.renderer != "reference" and cpu.available():
        try:
            draw, shuffle = cpu.load([_DRAW, _SHUFFLE])
            _functions = builtin.function(draw), builtin.function(shuffle)
        except cpu.Unavailable:
            pass
    return _functions


def draw(state: int, out: int, n: int) -> None:
    """Write the next ``n`` draws of the state at this address to ``out``, as uint32.  Where ``n`` is 0, the words are made if they were not yet."""
    (_functions or _chosen())[0](_pack(state, out, n))


def shuffle(words: int, out: int, n: int) -> None:
    """Write the numbers below ``n``, in the order that the ``n - 1`` draws at ``words`` give, to ``out`` as int64."""
    (_functions or _chosen())[1](_pack(words, out, n))


__all__ = ["FRESH", "NEXT", "SEEDED", "WORDS", "State", "draw", "shuffle"]
