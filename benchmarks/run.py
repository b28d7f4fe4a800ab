"""``make bench``: every case under PyTorch and under Flambeau, the same source, in alternating fresh processes.

Input: the two interpreters.  Output: a table on the terminal, ``benchmarks/results/latest.json`` with every sample, and
``benchmarks/results/table.md`` for ``docs/benchmarks.md``.  A ratio is PyTorch's figure divided by Flambeau's within one round, so
that a busy machine slows both; reported are the median of the rounds' ratios and the smallest and largest of them.

A *family* (products, linear layers, convolutions) is a script that times many shapes in one process.  Its rounds alternate between Flambeau
and PyTorch in both modes of the C library's allocator: as it is, and with thresholds so high that large blocks are kept, not
returned to the system and fetched again as pages of zeros.  Their table has arithmetic per second and the share of this machine's peak.

First calls are timed with an empty kernel cache, with a full one, and with other sizes of the same class; a table tells how many kernels each compiles.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CASES, RESULTS = HERE / "cases", HERE / "results"
LIBRARIES = ("torch", "flambeau")


@dataclass(frozen=True)
class Case:
    """One line of the table.

    ``ratio`` is how many times faster than PyTorch it should be, ``limit`` the most that Flambeau may take itself (seconds,
    bytes).  ``kind`` says what is measured: ``step`` (the script times itself), ``start`` (seconds over an empty interpreter),
    ``memory`` (peak bytes), ``process`` (seconds of the whole process once kernels are cached), ``first`` (seconds that an empty
    kernel cache adds).
    """

    title: str
    script: str
    kind: str = "step"
    ratio: float = 0.0
    limit: float = 0.0
    threads: int = 1

    @property
    def label(self) -> str:
        return self.title if self.threads == 1 else f"{self.title}, {self.threads} threads"


TABLE = (
    Case("import, over an empty interpreter", "import_only", "start", ratio=25, limit=0.060),
    Case("peak memory after import", "import_only", "memory", limit=40e6),
    Case("tutorial section 5, whole process", "section5", "process", ratio=10, limit=0.35),
    Case("the same without NumPy", "section5_no_numpy", "process", ratio=10),
    Case("tutorial section 5, what an empty cache adds", "section5", "first", limit=0.6),
    Case("linear regression step", "linear_regression", ratio=7),
    Case("MLP 13-32-32-1 tanh Adam step with .item()", "mlp_adam", ratio=5),
    Case("GRU cell, 20 steps and backward", "gru_cell", ratio=3),
    Case("inference of one row", "one_row", ratio=2),
    Case("pointwise chain, 3000×4001", "pointwise_chain", ratio=8),
    Case("softmax, 3000×4001", "softmax", ratio=1.5),
    Case("softmax with gradient", "softmax_gradient", ratio=1.5),
    Case("layer norm, 3000×4001", "layer_norm", ratio=1.5),
    Case("layer norm with gradients", "layer_norm_gradient", ratio=1.5),
    Case("cross-entropy, 3000×4001", "cross_entropy", ratio=1.5),
    Case("cross-entropy with gradient", "cross_entropy_gradient", ratio=1.5),
    Case("causal attention, 48 heads of 256×64", "attention", ratio=1),
    Case("causal attention with gradients", "attention_gradient", ratio=1),
    Case("training step of a small GPT", "transformer_step", ratio=1),
)

# Scripts that time many cases each, and what their lines begin with
FAMILIES = {"products": "product", "linear_epilogue": "linear", "convolutions": "convolution"}

# A script that times first calls, each in a process of its own
FIRST = "first_calls"

# How a family is run: which interpreter, and what its environment gets
MODES: dict[str, tuple[str, dict[str, str]]] = {
    "torch": ("torch", {}),
    "torch_kept": ("torch", {"MALLOC_MMAP_THRESHOLD_": str(1 << 32), "MALLOC_TRIM_THRESHOLD_": str(1 << 32)}),
    "flambeau": ("flambeau", {}),
}


@dataclass(frozen=True)
class Run:
    """What one process took: wall-clock seconds, peak resident bytes, and the JSON it printed last, if any."""

    seconds: float
    peak: int
    printed: dict[str, Any]


class Bench:
    """The two interpreters and one private kernel cache for the whole run."""

    def __init__(self, interpreters: dict[str, str], seconds: float, scratch: str, threads: list[int], shapes: str = "", cpu_time: bool = False) -> None:
        self.interpreters = interpreters
        self.scratch = scratch
        self.environment = {**os.environ, "BENCH_SECONDS": str(seconds), "BENCH_SHAPES": shapes, "FLAMBEAU_CACHE": os.path.join(scratch, "cache"),
                            "BENCH_THREADS": ",".join(map(str, sorted({1, *threads})))}
        if cpu_time:
            self.environment["BENCH_CLOCK"] = "cpu"
        # As a user would have it: nothing from elsewhere on the path, and compiled bytecode kept (an installed package has it).
        for name in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"):
            self.environment.pop(name, None)
        self.limits: dict[str, float] = {}

    def run(self, library: str, script: str, threads: int = 1, more: dict[str, str] | None = None) -> Run:
        """Run one case in a fresh process; a plain script (``empty``, ``machine``) is run by the bare interpreter."""
        command = [self.interpreters[library]]
        if library == "flambeau" and script not in ("empty", "machine"):
            command += ["-m", "flambeau", "run"]
        counts = {f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "MKL", "OPENBLAS")}
        environment = {**self.environment, **counts, "BENCH_LIBRARY": library, **(more or {})}
        with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as complaints:
            start = time.perf_counter()
            process = subprocess.Popen([*command, str(CASES / f"{script}.py")], env=environment, stdout=output, stderr=complaints,
                                       cwd=HERE.parent)
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - start
            process.returncode = os.waitstatus_to_exitcode(status)
            output.seek(0)
            complaints.seek(0)
            if process.returncode:
                last = complaints.read().strip().splitlines()[-1:]
                raise RuntimeError(f"{script} under {library} ended with status {process.returncode}: {' '.join(last)}")
            lines = output.read().strip().splitlines()
        printed = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}
        return Run(seconds, usage.ru_maxrss * 1024, printed)

    def measure_machine(self) -> dict[str, float]:
        """This machine's limits: the best seen so far in this run, after looking once more (it may have been busy before)."""
        for name, value in self.run("flambeau", "machine").printed.items():
            self.limits[name] = max(value, self.limits.get(name, 0.0))
        return self.limits

    def figure(self, case: Case, library: str) -> tuple[float, Run]:
        """The case's number for one round: seconds or bytes."""
        if case.kind == "first":
            with tempfile.TemporaryDirectory(dir=self.scratch) as cache:
                cold = self.run(library, case.script, case.threads, {"FLAMBEAU_CACHE": cache})
                warm = self.run(library, case.script, case.threads, {"FLAMBEAU_CACHE": cache})
            return cold.seconds - warm.seconds, cold
        run = self.run(library, case.script, case.threads)
        if case.kind == "start":
            return run.seconds - self.run(library, "empty", case.threads).seconds, run
        if case.kind == "memory":
            return run.peak, run
        if case.kind == "process":
            return run.seconds, run
        return run.printed["seconds"], run


def measure(bench: Bench, case: Case, rounds: int) -> dict[str, Any]:
    """All rounds of one case, the libraries taking turns at going first."""
    libraries = LIBRARIES if case.kind != "first" else ("flambeau",)
    figures: dict[str, list[float]] = {library: [] for library in libraries}
    if case.kind != "first":
        for library in libraries:
            bench.run(library, case.script, case.threads)   # fill the operating system's cache of files and Flambeau's of kernels
    least = 0.0         # seconds that this machine would need at its limit
    for turn in range(rounds):
        for library in libraries if turn % 2 == 0 else libraries[::-1]:
            value, run = bench.figure(case, library)
            figures[library].append(value)
            if case.kind == "step" and (run.printed["moved"] or run.printed["flops"]):
                limits = bench.measure_machine() if library == "flambeau" else bench.limits
                least = max(run.printed["moved"] / limits["bytes_per_second"], run.printed["flops"] / limits["flops_per_second"])
    ratios = [t / f for t, f in zip(figures.get("torch", []), figures["flambeau"])]
    result: dict[str, Any] = {
        "title": case.label, "threads": case.threads, "script": case.script, "kind": case.kind, "samples": figures, "target": case.ratio, "limit": case.limit,
        **{library: statistics.median(values) for library, values in figures.items()},
    }
    if ratios:
        result |= {"ratio": statistics.median(ratios), "ratio_least": min(ratios), "ratio_most": max(ratios)}
    if least:
        result["share_of_limit"] = least / result["flambeau"]
    result["met"] = result.get("ratio", 0) >= case.ratio and (not case.limit or result["flambeau"] <= case.limit)
    return result


def measure_family(bench: Bench, script: str, threads: int, rounds: int, say: Callable[[dict[str, Any]], None]) -> list[dict[str, Any]]:
    """All rounds of a family on some threads; one result for each of its cases.

    A case's samples are a list of medians for each mode, ``least`` the shortest time seen in any round.  PyTorch's with another layout of its
    operands is a mode of its own (``torch, channels last``).
    """
    samples: dict[str, dict[str, list[float]]] = {}
    best: dict[str, dict[str, float]] = {}
    facts: dict[str, dict[str, Any]] = {}
    for turn in range(rounds):
        for mode in list(MODES)[::1 if turn % 2 == 0 else -1]:
            library, environment = MODES[mode]
            for case in bench.run(library, script, threads, environment).printed["family"]:
                name, layout, least = case.pop("name"), case.pop("layout", None), case.pop("best")
                of = f"{mode}, {layout}" if layout else mode
                samples.setdefault(name, {}).setdefault(of, []).append(case.pop("seconds"))
                shortest = best.setdefault(name, {})
                shortest[of] = min(least, shortest.get(of, least))
                facts[name] = case
        bench.measure_machine()
    results = []
    for name, figures in samples.items():
        ours, theirs = figures["flambeau"], [values for mode, values in figures.items() if mode != "flambeau"]
        ratios = [t / f for t, f in zip(figures["torch"], ours)]
        to_best = [min(ts) / f for ts, f in zip(zip(*theirs), ours)]
        result: dict[str, Any] = {
            "title": f"{FAMILIES[script]} {name}", "script": script, "kind": "family", "threads": threads, **facts[name], "samples": figures,
            "least": best[name],
            "seconds": {mode: statistics.median(values) for mode, values in figures.items()},
            "ratio": statistics.median(ratios), "ratio_to_best": statistics.median(to_best),
            "ratio_to_best_least": min(to_best), "ratio_to_best_most": max(to_best),
        }
        result["gflops"] = {mode: result["flops"] / seconds / 1e9 for mode, seconds in result["seconds"].items()}
        plain = samples.get(result.get("plain", ""))
        if plain:
            result["to_plain"] = statistics.median(p / f for p, f in zip(plain["flambeau"], ours))
        # the peak of float32 for half precision: what an engine without instructions of their own could reach
        peak = bench.limits.get(f"peak_{'float64' if result['dtype'] == 'float64' else 'float32'}_{threads}")
        if peak:
            result["share_of_peak"] = {mode: 1e9 * value / peak for mode, value in result["gflops"].items()}
        results.append(result)
        say(result)
    return results


def measure_first(bench: Bench, threads: int, rounds: int) -> list[dict[str, Any]]:
    """All rounds of the first calls on some threads; medians."""
    samples: dict[str, dict[str, list[float]]] = {}
    facts: dict[str, dict[str, Any]] = {}
    for turn in range(rounds):
        for library in LIBRARIES if turn % 2 == 0 else LIBRARIES[::-1]:
            for case in bench.run(library, FIRST, threads).printed["first_calls"]:
                figures = samples.setdefault(case["name"], {})
                for kind in ("first", "warm", "other"):
                    if kind in case:
                        figures.setdefault(f"{library}, {kind}", []).append(case[kind])
                if library == "flambeau":
                    facts[case["name"]] = {"kernels": case["kernels"], "new_kernels": case["new_kernels"]}
    return [{"title": name, "script": FIRST, "kind": "first call", "threads": threads, "samples": figures, **facts[name],
             "seconds": {mode: statistics.median(values) for mode, values in figures.items()}} for name, figures in samples.items()]


# ---------------------------------------------------------------------------------------------------- presentation

HEADINGS = ("case", "PyTorch", "Flambeau", "ratio", "(spread)", "target", "of limit", "")


def readable(value: float | None, kind: str) -> str:
    if value is None:
        return ""
    if kind == "memory":
        return f"{value / 1e6:.0f} MB"
    for unit, scale in (("s", 1.0), ("ms", 1e-3)):
        if abs(value) >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value / 1e-6:.3g} µs"


def cells(result: dict[str, Any]) -> tuple[str, ...]:
    kind, targets = result["kind"], []
    if result["target"]:
        targets.append(f"≥ {result['target']:g}×")
    if result["limit"]:
        targets.append(f"≤ {readable(result['limit'], kind)}")
    return (
        result["title"], readable(result.get("torch"), kind), readable(result["flambeau"], kind),
        f"{result['ratio']:.1f}×" if "ratio" in result else "",
        f"{result['ratio_least']:.1f}-{result['ratio_most']:.1f}" if "ratio" in result else "",
        ", ".join(targets), f"{result['share_of_limit']:.0%}" if "share_of_limit" in result else "",
        "ok" if result["met"] else "missed",
    )


WIDTHS = (46, 8, 8, 7, 11, 15, 8, 6)


def line(row: tuple[str, ...]) -> str:
    return "".join(f"{cell:<{width}}" if i in (0, 7) else f"{cell:>{width}}  " for i, (cell, width) in enumerate(zip(row, WIDTHS)))


FAMILY_HEADINGS = ("case", "threads", "PyTorch", "its best", "Flambeau", "GFLOPS", "of peak", "its best", "ratio", "to best", "(spread)", "to plain")
FAMILY_WIDTHS = (66, 7, 8, 8, 8, 7, 7, 8, 6, 7, 11, 8)


def family_cells(result: dict[str, Any]) -> tuple[str, ...]:
    seconds, share = result["seconds"], result.get("share_of_peak", {})
    best = min((mode for mode in seconds if mode != "flambeau"), key=lambda mode: seconds[mode])
    return (
        result["title"], str(result["threads"]), readable(seconds["torch"], ""), readable(seconds[best], ""), readable(seconds["flambeau"], ""),
        f"{result['gflops']['flambeau']:.3g}", f"{share['flambeau']:.0%}" if share else "", f"{share[best]:.0%}" if share else "",
        f"{result['ratio']:.2f}×", f"{result['ratio_to_best']:.2f}×", f"{result['ratio_to_best_least']:.2f}-{result['ratio_to_best_most']:.2f}",
        f"{result['to_plain']:.2f}×" if "to_plain" in result else "",
    )


def family_line(row: tuple[str, ...]) -> str:
    return "".join(f"{cell:<{width}}" if i == 0 else f"{cell:>{width}}  " for i, (cell, width) in enumerate(zip(row, FAMILY_WIDTHS)))


FIRST_HEADINGS = ("first call", "threads", "empty cache", "full cache", "other sizes", "kernels", "PyTorch", "other sizes")
FIRST_WIDTHS = (46, 7, 11, 10, 11, 7, 8, 11)


def first_cells(result: dict[str, Any]) -> tuple[str, ...]:
    seconds = result["seconds"]
    ours = [readable(seconds[f"flambeau, {kind}"], "") for kind in ("first", "warm", "other")]
    return (result["title"], str(result["threads"]), *ours, f"{result['kernels']}+{result['new_kernels']}",
            *(readable(seconds[f"torch, {kind}"], "") for kind in ("first", "other")))


def first_line(row: tuple[str, ...]) -> str:
    return "".join(f"{cell:<{width}}" if i == 0 else f"{cell:>{width}}  " for i, (cell, width) in enumerate(zip(row, FIRST_WIDTHS)))


def table(rows: list[tuple[str, ...]], right: slice) -> str:
    marks = ["---"] * len(rows[0])
    marks[right] = ["---:"] * len(marks[right])
    return "\n".join("| " + " | ".join(row) + " |" for row in (rows[0], marks, *rows[1:])) + "\n"


def markdown(results: list[dict[str, Any]], machine: dict[str, Any]) -> str:
    single = [cells(r) for r in results if r["kind"] not in ("family", "first call")]
    first = [first_cells(r) for r in results if r["kind"] == "first call"]
    families = [family_cells(r) for r in results if r["kind"] == "family"]
    peaks = "; ".join(f"peak of {dtype}, {threads} thread{'s' if threads != '1' else ''}: {value / 1e9:.0f} GFLOPS"
                      for name, value in machine.items() if name.startswith("peak_") for _, dtype, threads in [name.split("_")])
    text = (f"{machine['date']}, {machine['processor']}, one thread unless it says more, Python {machine['python']}, "
            f"PyTorch {machine['torch']}; copy {machine['bytes_per_second'] / 1e9:.1f} GB/s, "
            f"NumPy's product {machine['flops_per_second'] / 1e9:.0f} GFLOPS; {machine['rounds']} rounds, {machine['clock']}. {peaks}\n")
    if single:
        text += "\n" + table([HEADINGS, *single], slice(1, 7))
    if first:
        text += "\n" + table([FIRST_HEADINGS, *first], slice(1, None))
    if families:
        text += "\n" + table([FAMILY_HEADINGS, *families], slice(1, None))
    return text


def processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def version_of_torch(interpreter: str) -> str:
    code = "import importlib.metadata as m; print(m.version('torch'))"
    return subprocess.run([interpreter, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--flambeau", default=sys.executable, help="interpreter with Flambeau (default: this one)")
    parser.add_argument("--torch", default=sys.executable, help="interpreter with PyTorch (default: this one)")
    parser.add_argument("--only", default="", metavar="PATTERN", help="regular expression on titles and script names")
    parser.add_argument("--shapes", default="", metavar="PATTERN", help="regular expression on the cases within a family")
    parser.add_argument("--threads", type=int, nargs="+", help="numbers of threads (default: 1, and for families 1 and 2)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cpu-time", action="store_true",
                        help="steps on one thread only, in processor time instead of wall-clock time: repeatable on a busy machine")
    parser.add_argument("--quick", action="store_true", help="two short rounds, to see that everything runs")
    parser.add_argument("--seconds", type=float, default=0.7, help="how long a step is timed in a process; many short rounds even out a busy machine")
    parser.add_argument("--strict", action="store_true", help="exit with status 1 when a target is missed")
    options = parser.parse_args()
    if options.cpu_time and (options.threads or [1]) != [1]:
        parser.error("--cpu-time is for one thread: on several, waiting for each other is part of what a step takes")
    if options.cpu_time:
        options.threads = [1]
    rounds, seconds = (2, 0.2) if options.quick else (options.rounds, options.seconds)
    chosen = [replace(case, threads=n) for case in TABLE if re.search(options.only, f"{case.title} {case.script}") for n in options.threads or [1]]
    chosen = [case for case in chosen if case.kind == "step" or not options.cpu_time]
    families = [(script, n) for script, title in FAMILIES.items() if re.search(options.only, f"{title} {script}") for n in options.threads or [1, 2]]

    first = [n for n in options.threads or [1, 2] if re.search(options.only, f"first calls {FIRST}")]

    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench({"torch": options.torch, "flambeau": options.flambeau}, seconds, scratch, options.threads or [1, 2], options.shapes, options.cpu_time)
        limits = bench.measure_machine()
        machine: dict[str, Any] = {"date": datetime.date.today().isoformat(), "processor": processor(), "python": platform.python_version(),
                   "torch": version_of_torch(options.torch), "rounds": rounds, "clock": "processor time" if options.cpu_time else "wall-clock time"}
        print(f"{machine['processor']}; on one thread: copy {limits['bytes_per_second'] / 1e9:.1f} GB/s, "
              f"product {limits['flops_per_second'] / 1e9:.0f} GFLOPS, peak {limits.get('peak_float32_1', 0) / 1e9:.0f} GFLOPS\n")
        broken = 0
        if chosen:
            print(line(HEADINGS))
        for case in chosen:
            try:
                results.append(measure(bench, case, rounds))
            except RuntimeError as error:
                broken += 1
                print(f"{case.label:<{WIDTHS[0]}}failed: {error}", flush=True)
            else:
                print(line(cells(results[-1])), flush=True)
        for threads in first:
            try:
                made = measure_first(bench, threads, rounds)
                print("\n".join(["", first_line(FIRST_HEADINGS), *(first_line(first_cells(result)) for result in made)]), flush=True)
                results += made
            except RuntimeError as error:
                broken += 1
                print(f"{FIRST}, {threads} threads: failed: {error}", flush=True)
        if families:
            print(("\n" if chosen else "") + family_line(FAMILY_HEADINGS), flush=True)
        for script, threads in families:
            try:
                results += measure_family(bench, script, threads, rounds, lambda result: print(family_line(family_cells(result)), flush=True))
            except RuntimeError as error:
                broken += 1
                print(f"{script}, {threads} threads: failed: {error}", flush=True)

    machine |= limits
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "latest.json").write_text(json.dumps({"machine": machine, "results": results}, indent=1))
    (RESULTS / "table.md").write_text(markdown(results, machine))
    aimed = [result for result in results if "met" in result]
    missed = [result["title"] for result in aimed if not result["met"]]
    met = f"{len(aimed) - len(missed)} of {len(chosen)} met their target.  " if chosen else ""
    print(f"\n{met}Every sample: {os.path.relpath(RESULTS / 'latest.json')}")
    if broken or (options.strict and missed):
        sys.exit(1)


if __name__ == "__main__":
    main()
