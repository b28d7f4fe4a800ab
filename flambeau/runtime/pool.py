"""Running kernels: the native loop that walks a plan's list of launches, and the worker threads that share the large ones.

A kernel is ``void(ptr table, ptr args, i64 begin, i64 end, ptr scratch)``: it runs the units begin..end of its work.  ``scratch``
is a block of :data:`SCRATCH` bytes, 64-byte aligned, with arbitrary contents, that no other thread uses during the call; the 64
bytes in front of it are the thread's error block (first failure: 1 + site, index, size; a bit for each site that failed).
Units are cut by shape, so a result has the same bits whoever runs them.

Input: the launch lists of plans (:func:`launch_list`).  Output: they are run, by one native call each.  Workers are threads
of the C library that never enter Python.  They start with the first launch worth sharing; between launches they watch for the
next one for :data:`SPIN` nanoseconds, then sleep in the kernel.

How a launch is shared
----------------------
The units of a launch are cut into ``chunks``, the smallest pieces that are handed out.  Every thread, the caller is number 0, has a 64-bit
word, its *range*: (generation : 32, first chunk : 16, end : 16), in a cache line of its own.  A launch:

1. The caller holds the pool (a lock that is only tried, see below) and all ranges are empty.  It writes the description (kernel, table,
   arguments, units, ...), sets *done* to 0 and gives each thread an equal range of the next generation, which releases what it wrote.
   Ranges follow one another as the threads do, so a launch over the same data finds it in the cache where the last one left it.
2. Everybody, the caller too, takes chunks: load a range (acquire); if it is not empty, load the description; exchange the range for
   what is to be left of it if it is still what was loaded, else start again.  Whoever succeeds runs the chunks that it took.  One's own range
   comes first, seven eighths of what is left at a time, because kernels gain by long runs of units (a product packs its factors
   once for each); of another's the second half is taken.
3. A worker that finds all ranges empty adds the number of chunks it ran to *done* (release).  The caller, when it finds none left,
   waits until *done* plus its own chunks is ``chunks`` (acquire).

*A worker that takes chunks has the description of their launch.*  The description changes only while all ranges are empty (1), and the
exchange succeeds only if the range never changed since it was loaded and was not empty: within one generation its first chunk only grows and
its end only falls, and generations only increase.  (They wrap after 2^32 launches: a worker would have to stand still between two instructions
for more than an hour, and wake at the very same range.)  So between load and exchange the launch was open and the
description untouched; acquiring the range made the worker see it.  A worker that is late reads perhaps a description in
the making, but its exchange fails and it throws away what it read without using it.

*Nothing is touched after the caller returns.*  All chunks are taken exactly once, each taken one is counted in *done* after it
has run, and the caller returns when all are counted.  A worker that was not counted has taken nothing and uses no pointer.

*Nobody is waited for who has not begun.*  The caller waits for workers that run chunks; from a worker that sleeps, or that
the system has not let run, it takes the range away.

*Wake-ups.*  A worker notes at its range that it sleeps, then sleeps only if the generation there is still the one it last saw (checked by the
system, or under the mutex); the caller publishes, then looks at the notes.  Both orders are sequentially consistent, so one of them sees the
other.  A wake-up that were lost all the same would cost time, not results.

Who may call
------------
Any thread may walk a list at any time.  A walk takes one of :data:`SLOTS` places, each with scratch memory; the first place owns
the workers, and a walk in another place runs everything itself.  After ``fork`` the child has no workers and free places.
"""

from __future__ import annotations

import atexit
import ctypes
import mmap
import os
import struct
import sys
import time
from _thread import RLock  # threading takes as long to import as a whole warm start
from collections.abc import Callable, Sequence
from typing import Any

from . import builtin, cpu

SCRATCH = 8 << 20
SLOTS = 4                   # walks at the same time; more wait for a place
SPIN = 50_000               # nanoseconds
MOST = 512                  # threads
WORTH = 1 << 16             # points of a launch from which sharing pays: some 10 microseconds
CHUNK = 1 << 15             # points of a chunk, at least
MOST_CHUNKS = (1 << 16) - 1
STACK = 8 << 20
HUGE_PAGE = 2 << 20

started = False             # as many workers as were asked for are there; who runs a plan with shared launches looks first

_wanted = 0                 # threads, the caller included; 0: not asked yet
_lock = RLock()
_base = 0                   # address of the control block, see _WORDS
_workers: list[_Worker] = []
_idle: list[_Worker] = []       # memory of workers that have ended
_walker: tuple[Callable[..., None], Callable[..., None]] | None = None

# The control block: offsets of its words.  What different threads write lies in different cache lines.
_WORDS = {
    "generation": 0, "done": 64, "kernel": 128, "table": 136, "args": 144, "units": 152, "per": 160, "parts": 168, "serial": 176,
    "workers": 256, "spin": 264, "error_lock": 320, "error_serial": 328, "error_first": 336,
    "mutex": 384, "condition": 512, "slots": 640, "ranges": 1024,
}
_LINE = 64
_SLEEPING = 8               # in a range's line: whether its thread sleeps
_GENERATION = 4 if sys.byteorder == "little" else 0
_SLOT = 64                  # bytes of a place: its lock, then the address of its scratch memory
_ROOM = _WORDS["ranges"] + MOST * _LINE + 4096 & -4096      # of the control block
# A worker's block: address of the control block, of its scratch memory, then these; the generation is that of its range when it was started
_STOP, _NUMBER, _BEFORE, _ENDED = 16, 24, 32, 64


# ---------------------------------------------------------------- native code

# Take chunks until there are none, as the thread %number; %ran counts them.  Comes from block %FROM, goes on at %exhausted.
_CHUNKS = """
chunks:
  %ran = phi i64 [ 0, %FROM ], [ %ran1, %counted ]
  %c.parts = load atomic i64, ptr %parts.at monotonic, align 8
  br label %look
look:                           ; at one's own range, then at those of the others
  %c.i = phi i64 [ 0, %chunks ], [ %c.i1, %elsewhere ], [ %c.i, %describe ]
  %c.whose = add i64 %number, %c.i
  %c.place = urem i64 %c.whose, %c.parts
  %c.range = getelementptr [8 x i64], ptr %ranges.at, i64 %c.place
  %c.w = load atomic i64, ptr %c.range acquire, align 8
  %c.end = and i64 %c.w, 65535
  %c.high = lshr i64 %c.w, 16
  %c.first = and i64 %c.high, 65535
  %c.left = sub i64 %c.end, %c.first
  %c.none = icmp eq i64 %c.left, 0
  br i1 %c.none, label %elsewhere, label %describe
elsewhere:
  %c.i1 = add i64 %c.i, 1
  %c.others = icmp ult i64 %c.i1, %c.parts
  br i1 %c.others, label %look, label %exhausted
describe:
  %c.kernel = load atomic ptr, ptr %kernel.at monotonic, align 8
  %c.table = load atomic ptr, ptr %table.at monotonic, align 8
  %c.args = load atomic ptr, ptr %args.at monotonic, align 8
  %c.units = load atomic i64, ptr %units.at monotonic, align 8
  %c.per = load atomic i64, ptr %per.at monotonic, align 8
  %c.serial = load atomic i64, ptr %serial.at monotonic, align 8
  %c.eighth = lshr i64 %c.left, 3
  %c.half = lshr i64 %c.left, 1
  %c.cut.own = sub i64 %c.end, %c.eighth
  %c.cut.others = add i64 %c.first, %c.half
  %c.own = icmp eq i64 %c.i, 0
  %c.cut = select i1 %c.own, i64 %c.cut.own, i64 %c.cut.others
  %c.from = select i1 %c.own, i64 %c.first, i64 %c.cut        ; what is taken, and what is left
  %c.upto = select i1 %c.own, i64 %c.cut, i64 %c.end
  %c.first1 = select i1 %c.own, i64 %c.cut, i64 %c.first
  %c.end1 = select i1 %c.own, i64 %c.end, i64 %c.cut
  %c.generation = and i64 %c.w, -4294967296
  %c.high1 = shl i64 %c.first1, 16
  %c.bounds1 = or i64 %c.high1, %c.end1
  %c.w1 = or i64 %c.generation, %c.bounds1
  %c.swap = cmpxchg ptr %c.range, i64 %c.w, i64 %c.w1 acq_rel monotonic
  %c.taken = extractvalue { i64, i1 } %c.swap, 1
  br i1 %c.taken, label %run, label %look
run:
  %c.begin.unit = mul i64 %c.from, %c.per
  %c.upto.unit = mul i64 %c.upto, %c.per
  %c.within = icmp slt i64 %c.upto.unit, %c.units
  %c.end.unit = select i1 %c.within, i64 %c.upto.unit, i64 %c.units
  call void %c.kernel(ptr %c.table, ptr %c.args, i64 %c.begin.unit, i64 %c.end.unit, ptr %scratch)
  %c.took = sub i64 %c.upto, %c.from
  %ran1 = add i64 %ran, %c.took
  %c.note = load i64, ptr %errors, align 8
  %c.fine = icmp eq i64 %c.note, 0
  br i1 %c.fine, label %counted, label %m.failed
#MERGE_CHUNKS
counted:
  br label %chunks
"""

# Move a failure from the thread's error block to the plan's.  The first one stays, and among those of one launch the one of the
# lowest chunk, so that who ran what does not show.
_MERGE = """
PREfailed:
  %PRElock = cmpxchg ptr %error_lock.at, i32 0, i32 1 acquire monotonic
  %PREheld = extractvalue { i32, i1 } %PRElock, 1
  br i1 %PREheld, label %PREcompare, label %PREbusy
PREbusy:
  #PAUSE
  br label %PREfailed
PREcompare:
  %PREblock.at = getelementptr i64, ptr TABLE, i64 1
  %PREblock = load ptr, ptr %PREblock.at, align 8
  %PREearlier = load i64, ptr %PREblock, align 8
  %PREempty = icmp eq i64 %PREearlier, 0
  %PREserial = load i64, ptr %error_serial.at, align 8
  %PREsame = icmp eq i64 %PREserial, SERIAL
  %PREfirst = load i64, ptr %error_first.at, align 8
  %PRElower = icmp slt i64 FIRST, %PREfirst
  %PREbetter = and i1 %PREsame, %PRElower
  %PREtake = or i1 %PREempty, %PREbetter
  %PREmine = load <4 x i64>, ptr %errors, align 8
  %PREtheirs = load <4 x i64>, ptr %PREblock, align 8
  %PREchosen = select i1 %PREtake, <4 x i64> %PREmine, <4 x i64> %PREtheirs
  %PREsites = or <4 x i64> %PREmine, %PREtheirs
  %PREmerged = shufflevector <4 x i64> %PREchosen, <4 x i64> %PREsites, <4 x i32> <i32 0, i32 1, i32 2, i32 7>
  store <4 x i64> %PREmerged, ptr %PREblock, align 8
  store <4 x i64> zeroinitializer, ptr %errors, align 8
  %PREserial1 = select i1 %PREtake, i64 SERIAL, i64 %PREserial
  store i64 %PREserial1, ptr %error_serial.at, align 8
  %PREfirst1 = select i1 %PREtake, i64 FIRST, i64 %PREfirst
  store i64 %PREfirst1, ptr %error_first.at, align 8
  store atomic i32 0, ptr %error_lock.at release, align 4
  br label %THEN
"""

# The part of a worker's life that is spent asleep, from block %asleep to block %awake: while the generation of its range is %seen.
_WAIT_FUTEX = """
  %r = call i64 (i64, ...) @syscall(i64 FUTEX, ptr %mine.generation, i64 128, i32 %seen, ptr null)
  br label %awake
"""
_WAKE_FUTEX = """
  %r = call i64 (i64, ...) @syscall(i64 FUTEX, ptr %range.generation, i64 129, i64 1, ptr null)
"""
_WAIT_CONDITION = """
  %r0 = call i32 @pthread_mutex_lock(ptr %mutex.at)
  %now = load atomic i32, ptr %mine.generation seq_cst, align 4
  %still = icmp eq i32 %now, %seen
  %ending = load atomic i32, ptr %stop.at monotonic, align 4
  %staying = icmp eq i32 %ending, 0
  %sleeps = and i1 %still, %staying
  br i1 %sleeps, label %really, label %unlock
really:
  %r1 = call i32 @pthread_cond_wait(ptr %condition.at, ptr %mutex.at)
  br label %unlock
unlock:
  %r2 = call i32 @pthread_mutex_unlock(ptr %mutex.at)
  br label %awake
"""
_WAKE_CONDITION = """
  %r0 = call i32 @pthread_mutex_lock(ptr %mutex.at)
  %r1 = call i32 @pthread_cond_broadcast(ptr %condition.at)
  %r2 = call i32 @pthread_mutex_unlock(ptr %mutex.at)
"""

_WORKER = """
define ptr @NAME(ptr %me) #ATTR {
entry:
  %time = alloca [2 x i64], align 16
  %control = load ptr, ptr %me, align 8
  %scratch.at = getelementptr i8, ptr %me, i64 8
  %scratch = load ptr, ptr %scratch.at, align 8
  %stop.at = getelementptr i8, ptr %me, i64 STOP
  %number.at = getelementptr i8, ptr %me, i64 NUMBER
  %number = load i64, ptr %number.at, align 8
  %ended.at = getelementptr i8, ptr %me, i64 ENDED
#WORDS
  %mine = getelementptr [8 x i64], ptr %ranges.at, i64 %number
  %mine.generation = getelementptr i8, ptr %mine, i64 GENERATION
  %mine.sleeping = getelementptr i8, ptr %mine, i64 SLEEPING
  %before.at = getelementptr i8, ptr %me, i64 BEFORE
  %before = load i32, ptr %before.at, align 4
  br label %rest
rest:                           ; out of work since now
  %seen = phi i32 [ %before, %entry ], [ %v.generation, %worked ], [ %seen, %awake ], [ %seen, %clock ]
  %since = phi i64 [ 0, %entry ], [ 0, %worked ], [ 0, %awake ], [ %since1, %clock ]
  br label %watch
watch:
  %n = phi i64 [ 0, %rest ], [ %n1, %again ]
  %v = load atomic i64, ptr %mine acquire, align 8
  %v.high = lshr i64 %v, 32
  %v.generation = trunc i64 %v.high to i32
  %idle = icmp eq i32 %v.generation, %seen
  br i1 %idle, label %nothing, label %chunks
nothing:
  %stop = load atomic i32, ptr %stop.at acquire, align 4
  %quit = icmp ne i32 %stop, 0
  br i1 %quit, label %over, label %again
again:
  #PAUSE
  %n1 = add i64 %n, 1
  %more = icmp slt i64 %n1, 32
  br i1 %more, label %watch, label %look.up
look.up:                        ; at the clock, now and then
  %r.clock = call i32 @clock_gettime(i32 MONOTONIC, ptr %time)
  %second = load i64, ptr %time, align 8
  %fraction.at = getelementptr i64, ptr %time, i64 1
  %fraction = load i64, ptr %fraction.at, align 8
  %second.ns = mul i64 %second, 1000000000
  %clock.now = add i64 %second.ns, %fraction
  %first = icmp eq i64 %since, 0
  %since1 = select i1 %first, i64 %clock.now, i64 %since
  %rested = sub i64 %clock.now, %since1
  %patience = load i64, ptr %spin.at, align 8
  %tired = icmp sgt i64 %rested, %patience
  br i1 %tired, label %asleep, label %clock
clock:
  br label %rest
asleep:
  %r.asleep = atomicrmw xchg ptr %mine.sleeping, i32 1 seq_cst
#WAIT
awake:
  store atomic i32 0, ptr %mine.sleeping monotonic, align 4
  br label %rest
#CHUNKS
exhausted:
  %any = icmp eq i64 %ran, 0
  br i1 %any, label %worked, label %count.up
count.up:
  %r.done = atomicrmw add ptr %done.at, i64 %ran release
  br label %worked
worked:
  br label %rest
over:
  store atomic i32 1, ptr %ended.at release, align 4
  ret ptr null
}
"""

_WALK = """
define void @NAME(ptr %request) #ATTR {
entry:
  %list = load ptr, ptr %request, align 8
  %table = getelementptr i64, ptr %request, i64 1
  %control = load ptr, ptr %list, align 8
#WORDS
  %n.at = getelementptr i64, ptr %list, i64 1
  %n = load i64, ptr %n.at, align 8
  %records = getelementptr i64, ptr %list, i64 2
  %some = icmp sgt i64 %n, 0
  br i1 %some, label %place, label %return
place:                          ; the first one that is free
  %s = phi i64 [ 0, %entry ], [ %s1, %other ], [ 0, %full ]
  %offset = mul i64 %s, SLOT_BYTES
  %slot = getelementptr i8, ptr %slots.at, i64 %offset
  %try = cmpxchg ptr %slot, i32 0, i32 1 acquire monotonic
  %got = extractvalue { i32, i1 } %try, 1
  br i1 %got, label %enter, label %other
other:
  %s1 = add i64 %s, 1
  %last = icmp eq i64 %s1, SLOTS
  br i1 %last, label %full, label %place
full:
  %r.full = call i32 @sched_yield()
  br label %place
enter:
  %scratch.at = getelementptr i8, ptr %slot, i64 8
  %scratch = load ptr, ptr %scratch.at, align 8
  %errors = getelementptr i8, ptr %scratch, i64 -64
  %owner = icmp eq i64 %s, 0
  %number = add i64 0, 0
  %workers = load atomic i64, ptr %workers.at acquire, align 8
  %helpers = select i1 %owner, i64 %workers, i64 0
  %helped = icmp sgt i64 %helpers, 0
  br label %next
next:
  %i = phi i64 [ 0, %enter ], [ %i1, %ran.it ]
  %record = getelementptr [4 x i64], ptr %records, i64 %i
  %record1 = getelementptr i64, ptr %record, i64 1
  %record2 = getelementptr i64, ptr %record, i64 2
  %record3 = getelementptr i64, ptr %record, i64 3
  %kernel = load ptr, ptr %record, align 8
  %args = load ptr, ptr %record1, align 8
  %units = load i64, ptr %record2, align 8
  %per = load i64, ptr %record3, align 8
  %several = icmp slt i64 %per, %units
  %shared = and i1 %several, %helped
  br i1 %shared, label %share, label %alone
alone:
  call void %kernel(ptr %table, ptr %args, i64 0, i64 %units, ptr %scratch)
  %note = load i64, ptr %errors, align 8
  %fine = icmp eq i64 %note, 0
  br i1 %fine, label %ran.it, label %a.failed
#MERGE_ALONE
share:
  %up = add i64 %units, %per
  %up1 = sub i64 %up, 1
  %chunks.all = sdiv i64 %up1, %per
  %all.threads = add i64 %helpers, 1
  %few = icmp slt i64 %chunks.all, %all.threads
  %parts = select i1 %few, i64 %chunks.all, i64 %all.threads
  store atomic ptr %kernel, ptr %kernel.at monotonic, align 8
  store atomic ptr %table, ptr %table.at monotonic, align 8
  store atomic ptr %args, ptr %args.at monotonic, align 8
  store atomic i64 %units, ptr %units.at monotonic, align 8
  store atomic i64 %per, ptr %per.at monotonic, align 8
  store atomic i64 %parts, ptr %parts.at monotonic, align 8
  %serial = load i64, ptr %serial.at, align 8
  %serial1 = add i64 %serial, 1
  store atomic i64 %serial1, ptr %serial.at monotonic, align 8
  store atomic i64 0, ptr %done.at monotonic, align 8
  %generation = load i64, ptr %generation.at, align 8
  %generation1 = add i64 %generation, 1
  store i64 %generation1, ptr %generation.at, align 8
  %generation.bits = shl i64 %generation1, 32
  br label %publish
publish:
  %p = phi i64 [ 0, %share ], [ %p1, %publish ]
  %p.begin = phi i64 [ 0, %share ], [ %p.end, %publish ]
  %p1 = add i64 %p, 1
  %p.share = mul i64 %chunks.all, %p1
  %p.end = udiv i64 %p.share, %parts
  %p.high = shl i64 %p.begin, 16
  %p.bounds = or i64 %p.high, %p.end
  %p.word = or i64 %generation.bits, %p.bounds
  %p.range = getelementptr [8 x i64], ptr %ranges.at, i64 %p
  store atomic i64 %p.word, ptr %p.range release, align 8
  %p.more = icmp slt i64 %p1, %parts
  br i1 %p.more, label %publish, label %published
published:
  fence seq_cst
  br label %asleep
asleep:                         ; anybody who has a range
  %s.i = phi i64 [ 1, %published ], [ %s.i1, %following ]
  %s.more = icmp slt i64 %s.i, %parts
  br i1 %s.more, label %look.at, label %opened
look.at:
  %range = getelementptr [8 x i64], ptr %ranges.at, i64 %s.i
  %range.sleeping = getelementptr i8, ptr %range, i64 SLEEPING
  %sleeps = load atomic i32, ptr %range.sleeping seq_cst, align 4
  %up.already = icmp eq i32 %sleeps, 0
  br i1 %up.already, label %following, label %wake.up
wake.up:
  store atomic i32 0, ptr %range.sleeping monotonic, align 4
  %range.generation = getelementptr i8, ptr %range, i64 GENERATION
#WAKE
  br label %following
following:
  %s.i1 = add i64 %s.i, 1
  br label %asleep
opened:
  br label %chunks
#CHUNKS
exhausted:
  %theirs = sub i64 %chunks.all, %ran
  br label %join
join:
  %turns = phi i64 [ 0, %exhausted ], [ %turns1, %turn ], [ %turns1, %yield ]
  %done = load atomic i64, ptr %done.at acquire, align 8
  %all = icmp eq i64 %done, %theirs
  br i1 %all, label %ran.it, label %turn
turn:
  #PAUSE
  %turns1 = add i64 %turns, 1
  %long = icmp sgt i64 %turns1, 1000
  br i1 %long, label %yield, label %join
yield:
  %r.yield = call i32 @sched_yield()
  br label %join
ran.it:
  %i1 = add nuw i64 %i, 1
  %more = icmp slt i64 %i1, %n
  br i1 %more, label %next, label %leave
leave:
  store atomic i32 0, ptr %slot release, align 4
  br label %return
return:
  ret void
}
"""


_DECLARED = (
    "i64 @syscall(i64, ...)", "i32 @sched_yield()", "i32 @clock_gettime(i32, ptr)", "i32 @pthread_mutex_lock(ptr)",
    "i32 @pthread_mutex_unlock(ptr)", "i32 @pthread_cond_wait(ptr, ptr)", "i32 @pthread_cond_broadcast(ptr)",
)
_FUTEX = {"x86_64": 202, "aarch64": 98}             # the number of the system call
_PAUSE = {
    "x86_64": ("call void @llvm.x86.sse2.pause()", "declare void @llvm.x86.sse2.pause()"),
    "aarch64": ("call void @llvm.aarch64.isb(i32 15)", "declare void @llvm.aarch64.isb(i32)"),
}


def _machine() -> str:
    name = os.uname().machine if hasattr(os, "uname") else os.environ.get("PROCESSOR_ARCHITECTURE", "")
    return {"AMD64": "x86_64", "arm64": "aarch64"}.get(name, name)


def _waiting() -> str:
    """How threads sleep here: "futex", "condition" (of POSIX threads), or "" where there are no threads to be had."""
    if sys.platform == "linux" and sys.maxsize > 1 << 32 and _machine() in _FUTEX:
        return "futex"
    return "condition" if os.name == "posix" and sys.platform not in ("emscripten", "wasi") else ""


def _native(text: str, waiting: str) -> str:
    """One of the templates above as LLVM IR for this machine."""
    def merge(prefix: str, serial: str, first: str, table: str, then: str) -> str:
        return (_MERGE.replace("PRE", prefix).replace("SERIAL", serial).replace("FIRST", first)
                .replace("TABLE", table).replace("THEN", then))

    worker = text is _WORKER
    machine = _machine()
    pause, declaration = _PAUSE.get(machine, ("", ""))
    words = [f"  %{name}.at = getelementptr i8, ptr %control, i64 {at}" for name, at in _WORDS.items()]
    if worker:
        words.append("  %errors = getelementptr i8, ptr %scratch, i64 -64")
    for mark, replacement in (
        ("#WAIT", _WAIT_CONDITION if waiting == "condition" else _WAIT_FUTEX),
        ("#WAKE", _WAKE_CONDITION if waiting == "condition" else _WAKE_FUTEX),
        ("#CHUNKS", _CHUNKS.replace("FROM", "watch" if worker else "opened")),
        ("#WORDS", "\n".join(words)),
        ("#MERGE_CHUNKS", merge("m.", "%c.serial", "%c.from", "%c.table", "counted")),
        ("#MERGE_ALONE", merge("a.", "0", "0", "%table", "ran.it")),
        ("#PAUSE", pause),
        ("FUTEX", str(_FUTEX.get(machine, 0))),
        ("MONOTONIC", "6" if sys.platform == "darwin" else "1"),
        ("SLOT_BYTES", str(_SLOT)), ("SLOTS", str(SLOTS)), ("STOP", str(_STOP)), ("ENDED", str(_ENDED)),
        ("NUMBER", str(_NUMBER)), ("BEFORE", str(_BEFORE)), ("SLEEPING", str(_SLEEPING)), ("GENERATION", str(_GENERATION)),
    ):
        text = text.replace(mark, replacement)
    used = [f"declare {d}" for d in _DECLARED if d[3:].strip().partition("(")[0] + "(" in text]
    return "\n".join([*used, declaration, text])


# ---------------------------------------------------------------- memory

class _Window:
    """Anonymous memory with scratch blocks and :data:`_ROOM` bytes of other words before the first.

    It is never given back: threads that outlive the interpreter may still use it.
    """

    def __init__(self, count: int = 1) -> None:
        stride = SCRATCH + HUGE_PAGE
        private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
        mapping = mmap.mmap(-1, count * stride + HUGE_PAGE, **private)
        held = ctypes.c_char.from_buffer(mapping)
        start = ctypes.addressof(held)
        first = -(-(start + _ROOM) // HUGE_PAGE) * HUGE_PAGE
        self.scratch = [first + i * stride for i in range(count)]
        for address in self.scratch:
            if hasattr(mmap, "MADV_HUGEPAGE"):
                try:
                    mapping.madvise(mmap.MADV_HUGEPAGE, address - start, SCRATCH)
                except OSError:
                    pass                    # a kernel without them
        self.words = first - _ROOM          # the last 64 bytes are the error block
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(held))


def block() -> int:
    """The address of the control block."""
    global _base
    if not _base:
        with _lock:
            if not _base:
                window = _Window(SLOTS)
                _set(window.words + _WORDS["spin"], SPIN)
                for i, address in enumerate(window.scratch):
                    _set(window.words + _WORDS["slots"] + i * _SLOT + 8, address)
                _reset(window.words)
                _base = window.words
    return _base


def _set(address: int, value: int) -> None:
    ctypes.c_int64.from_address(address).value = value


def _generation(number: int) -> int:
    """The address of the generation of a thread's range."""
    return _base + _WORDS["ranges"] + number * _LINE + _GENERATION


def _reset(base: int) -> None:
    """The control block as it is while nothing runs."""
    for name in ("done", "workers", "error_lock"):
        _set(base + _WORDS[name], 0)
    ctypes.memset(base + _WORDS["ranges"], 0, MOST * _LINE)
    for i in range(SLOTS):
        slot = base + _WORDS["slots"] + i * _SLOT
        _set(slot, 0)
        ctypes.memset(ctypes.c_int64.from_address(slot + 8).value - 64, 0, 64)
    if _waiting() == "condition":
        library = ctypes.CDLL(None)
        library.pthread_mutex_init(ctypes.c_void_p(base + _WORDS["mutex"]), None)
        library.pthread_cond_init(ctypes.c_void_p(base + _WORDS["condition"]), None)


# ---------------------------------------------------------------- threads

class _Worker:
    """A thread's block and, while it runs, the thread."""

    def __init__(self) -> None:
        window = _Window()
        self.block = window.words
        self.thread = ctypes.c_void_p()
        _set(self.block, block())
        _set(self.block + 8, window.scratch[0])

    def start(self, library: Any, attributes: Any, address: int, number: int) -> bool:
        _set(self.block + _NUMBER, number)
        _set(self.block + _BEFORE, ctypes.c_int32.from_address(_generation(number)).value)
        _set(self.block + _STOP, 0)
        _set(self.block + _ENDED, 0)
        return not library.pthread_create(ctypes.byref(self.thread), attributes, ctypes.c_void_p(address), ctypes.c_void_p(self.block))

    def stop(self) -> None:
        _set(self.block + _STOP, 1)

    @property
    def number(self) -> int:
        return ctypes.c_int64.from_address(self.block + _NUMBER).value

    @property
    def ended(self) -> bool:
        return ctypes.c_int32.from_address(self.block + _ENDED).value != 0


def threads() -> int:
    """How many threads may run a kernel, the caller included: OMP_NUM_THREADS, or the processors this process may use."""
    global _wanted
    if not _wanted:
        first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
        _wanted = int(first) if first.isdigit() and int(first) > 0 else processors()
    return _wanted


def processors() -> int:
    """The processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def resize(n: int) -> None:
    """Let ``n`` threads run kernels, the caller included, from the next launch on."""
    global _wanted
    if n != threads():
        with _lock:
            stop()
            _wanted = n


def start() -> None:
    """Start the workers that are missing; if the system refuses one, those that are there are enough."""
    global started
    with _lock:
        missing = min(threads(), MOST) - 1 - len(_workers)
        if missing > 0 and _waiting() and not started:
            try:
                address, = cpu.load([_native(_WORKER, _waiting())])
                _start(missing, address)
            except cpu.Unavailable:     # the rest came from the disk cache; the caller runs everything
                pass
        started = True


def _start(missing: int, address: int) -> None:
    control = block()
    library = ctypes.CDLL(None)
    attributes = (ctypes.c_int64 * 32)()
    library.pthread_attr_init(attributes)
    library.pthread_attr_setstacksize(attributes, ctypes.c_size_t(STACK))
    masked = _mask()
    try:
        for _ in range(missing):
            worker = _idle.pop() if _idle else _Worker()
            if not worker.start(library, attributes, address, 1 + len(_workers)):
                _idle.append(worker)
                break
            _workers.append(worker)
    finally:
        _unmask(masked)
        library.pthread_attr_destroy(attributes)
        _set(control + _WORDS["workers"], len(_workers))


def stop(limit: float = 1.0) -> None:
    """End the workers; at most ``limit`` seconds are spent on waiting for what one of them is running.

    Launches in progress are not disturbed: a worker ends when it finds nothing to do, and who launches does not wait for it.
    """
    global started
    with _lock:
        started = False
        if not _workers:
            return
        _set(_base + _WORDS["workers"], 0)
        leaving = _workers[:]
        _workers.clear()
        for worker in leaving:
            worker.stop()
        library = ctypes.CDLL(None)
        until = time.monotonic() + limit
        while True:
            # repeated, because a worker may have looked for the order just before and be on its way to sleep
            _wake(library, leaving)
            going = [worker for worker in leaving if not worker.ended]
            if not going or time.monotonic() > until:
                break
            time.sleep(2e-5)
        for worker in leaving:
            if worker in going:
                library.pthread_detach(worker.thread)
            else:
                library.pthread_join(worker.thread, None)
                _idle.append(worker)


def _wake(library: Any, workers: Sequence[_Worker]) -> None:
    if _waiting() == "futex":
        for worker in workers:
            library.syscall(ctypes.c_long(_FUTEX[_machine()]), ctypes.c_void_p(_generation(worker.number)), ctypes.c_long(129), ctypes.c_long(1 << 30), None)
    else:
        mutex = ctypes.c_void_p(_base + _WORDS["mutex"])
        library.pthread_mutex_lock(mutex)
        library.pthread_cond_broadcast(ctypes.c_void_p(_base + _WORDS["condition"]))
        library.pthread_mutex_unlock(mutex)


def _mask() -> Any:
    """Keep signals away from threads that are started now: they are for threads that can be woken from a system call of Python's."""
    import _signal  # type: ignore[import-not-found]  # signal makes enumerations first

    faults = {_signal.SIGSEGV, _signal.SIGBUS, _signal.SIGFPE, _signal.SIGILL}
    return _signal.pthread_sigmask(_signal.SIG_BLOCK, set(_signal.valid_signals()) - faults)


def _unmask(mask: Any) -> None:
    import _signal

    _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)


def _after_fork() -> None:
    """In the child only the thread that forked goes on; what the others held is free."""
    global _lock, started
    _lock = RLock()
    started = False
    _idle.extend(_workers)
    _workers.clear()
    if _base:
        _reset(_base)


if hasattr(os, "register_at_fork"):
    # workers end first: the system, and Python since 3.12, prefer that a process forks while it has one thread
    os.register_at_fork(before=stop, after_in_child=_after_fork)
atexit.register(stop)


# ---------------------------------------------------------------- running

def missing() -> list[str]:
    """The code that running launches needs and this process has not loaded yet, to be compiled beside the first kernels."""
    walk = [] if _walker else [_native(_WALK, _waiting()), builtin.CALL]
    return walk + ([_native(_WORKER, _waiting())] if threads() > 1 and _waiting() and not started else [])


def walker() -> tuple[Callable[..., None], Callable[..., None]]:
    """``walk(head + table)`` twice: releasing Python's lock while it runs, and holding it (for plans of microseconds).

    ``head`` is :func:`head` of the launches, which run in order, ``table`` the bytes of the table that the kernels get.  One
    argument, because ctypes takes 0.3 microseconds for each.
    """
    global _walker
    if _walker is None:
        address, _ = cpu.load([_native(_WALK, _waiting()), builtin.CALL])
        _walker = ctypes.CFUNCTYPE(None, ctypes.c_char_p)(address), builtin.function(address)
    return _walker


def share(points: int, units: int) -> int:
    """How many units a chunk of a launch has; all of them when it is too small to be shared."""
    if points < WORTH or units < 2:
        return units
    return -(-units // min(units, points // CHUNK, MOST_CHUNKS))


def launch_list(records: Sequence[tuple[int, int, int, int]]) -> Any:
    """Launches as the walker reads them: each (kernel's address, address of its argument words, units, units per chunk)."""
    words = [block(), len(records), *(word for record in records for word in record)]
    return (ctypes.c_int64 * len(words))(*words)


def head(launches: Any) -> bytes:
    """What the walker's argument begins with: where the launches of a :func:`launch_list` are."""
    return struct.pack("=q", ctypes.addressof(launches))
