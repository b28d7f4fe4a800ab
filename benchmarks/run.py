"""``make bench``: every case under PyTorch and under Flambeau, the same source, in alternating fresh processes.

Input: the two interpreters.  Output: a table on the terminal, ``benchmarks/results/latest.json`` with every sample, and
``benchmarks/results/table.md`` for ``docs/benchmarks.md``.  A ratio is PyTorch's figure divided by Flambeau's within one round, so
that a busy machine slows both; reported are the median of the rounds' ratios and the smallest and largest of them.
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
from dataclasses import dataclass
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
)


@dataclass(frozen=True)
class Run:
    """What one process took: wall-clock seconds, peak resident bytes, and the JSON it printed last, if any."""

    seconds: float
    peak: int
    printed: dict[str, Any]


class Bench:
    """The two interpreters and one private kernel cache for the whole run."""

    def __init__(self, interpreters: dict[str, str], seconds: float, scratch: str) -> None:
        self.interpreters = interpreters
        self.scratch = scratch
        threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS")}
        self.environment = {**os.environ, **threads, "BENCH_SECONDS": str(seconds), "FLAMBEAU_CACHE": os.path.join(scratch, "cache")}
        # As a user would have it: nothing from elsewhere on the path, and compiled bytecode kept (an installed package has it).
        for name in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"):
            self.environment.pop(name, None)
        self.limits: dict[str, float] = {}

    def run(self, library: str, script: str, cache: str | None = None) -> Run:
        """Run one case in a fresh process; a plain script (``empty``, ``machine``) is run by the bare interpreter."""
        command = [self.interpreters[library]]
        if library == "flambeau" and script not in ("empty", "machine"):
            command += ["-m", "flambeau", "run"]
        environment = self.environment if cache is None else {**self.environment, "FLAMBEAU_CACHE": cache}
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
                cold = self.run(library, case.script, cache)
                warm = self.run(library, case.script, cache)
            return cold.seconds - warm.seconds, cold
        run = self.run(library, case.script)
        if case.kind == "start":
            return run.seconds - self.run(library, "empty").seconds, run
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
            bench.run(library, case.script)     # fill the operating system's cache of files and Flambeau's of kernels
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
        "title": case.title, "script": case.script, "kind": case.kind, "samples": figures, "target": case.ratio, "limit": case.limit,
        **{library: statistics.median(values) for library, values in figures.items()},
    }
    if ratios:
        result |= {"ratio": statistics.median(ratios), "ratio_least": min(ratios), "ratio_most": max(ratios)}
    if least:
        result["share_of_limit"] = least / result["flambeau"]
    result["met"] = result.get("ratio", 0) >= case.ratio and (not case.limit or result["flambeau"] <= case.limit)
    return result


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


def markdown(results: list[dict[str, Any]], machine: dict[str, Any]) -> str:
    rows = [HEADINGS, ("---", *["---:"] * 6, "---"), *map(cells, results)]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return (f"{machine['date']}, {machine['processor']}, one thread, Python {machine['python']}, PyTorch {machine['torch']}; copy "
            f"{machine['bytes_per_second'] / 1e9:.1f} GB/s, product {machine['flops_per_second'] / 1e9:.0f} GFLOPS; "
            f"{machine['rounds']} rounds.\n\n{table}\n")


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
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="two short rounds, to see that everything runs")
    parser.add_argument("--strict", action="store_true", help="exit with status 1 when a target is missed")
    options = parser.parse_args()
    rounds, seconds = (2, 0.2) if options.quick else (options.rounds, 0.7)
    chosen = [case for case in TABLE if re.search(options.only, f"{case.title} {case.script}")]

    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench({"torch": options.torch, "flambeau": options.flambeau}, seconds, scratch)
        limits = bench.measure_machine()
        machine: dict[str, Any] = {"date": datetime.date.today().isoformat(), "processor": processor(), "python": platform.python_version(),
                   "torch": version_of_torch(options.torch), "rounds": rounds}
        print(f"{machine['processor']}, one thread; copy {limits['bytes_per_second'] / 1e9:.1f} GB/s, "
              f"product {limits['flops_per_second'] / 1e9:.0f} GFLOPS\n\n{line(HEADINGS)}")
        broken = 0
        for case in chosen:
            try:
                results.append(measure(bench, case, rounds))
            except RuntimeError as error:
                broken += 1
                print(f"{case.title:<{WIDTHS[0]}}failed: {error}", flush=True)
            else:
                print(line(cells(results[-1])), flush=True)

    machine |= limits
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "latest.json").write_text(json.dumps({"machine": machine, "results": results}, indent=1))
    (RESULTS / "table.md").write_text(markdown(results, machine))
    missed = [result["title"] for result in results if not result["met"]]
    print(f"\n{len(results) - len(missed)} of {len(chosen)} met their target.  Every sample: {os.path.relpath(RESULTS / 'latest.json')}")
    if broken or (options.strict and missed):
        sys.exit(1)


if __name__ == "__main__":
    main()
