"""The conformance ratchet: what passed PyTorch's own samples once must pass them for ever.

Runs the harness in ``../shared/conformance`` over the items listed in ``conformance/passing.txt`` (one ``kind name`` per line),
split over several processes, and fails when one of them no longer passes or was struck from the list.  ``--update`` runs every
item and adds those that pass; the list can only grow.  Needs an environment with PyTorch (``make conformance``).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
HARNESS = ROOT.parent / "shared" / "conformance" / "conformance.py"
PASSING = ROOT / "conformance" / "passing.txt"
RESULTS = ROOT / "conformance" / "results"
HEADER = "# Items of PyTorch's sample database that Flambeau passes.  Written by scripts/conformance_ratchet.py --update; only grows.\n"

Item = tuple[str, str]      # kind (op, module, optim), name


def listed(text: str) -> set[Item]:
    """The items of a list file."""
    return {(kind, name) for kind, _, name in (line.partition(" ") for line in text.splitlines() if line and not line.startswith("#"))}


def ever_listed() -> set[Item]:
    """Every item that any commit ever had in the list; empty where there is no history."""
    log = subprocess.run(["git", "log", "--format=", "-p", "--", str(PASSING.relative_to(ROOT))], cwd=ROOT, capture_output=True, text=True)
    added = [line[1:] for line in log.stdout.splitlines() if line.startswith("+") and not line.startswith("+++")]
    return listed("\n".join(added))


def all_items() -> set[Item]:
    """Every item of the half that the harness uses."""
    output = subprocess.run([sys.executable, str(HARNESS), "--candidate", "flambeau", "--list"], cwd=ROOT, capture_output=True, text=True,
                            check=True).stdout
    return {(line.split()[0], line.split()[1]) for line in output.splitlines() if line.split()[0] in ("op", "module", "optim")}


def run(items: set[Item], jobs: int, samples: int) -> dict[Item, dict[str, Any]]:
    """The harness's verdict on each item; the work is dealt out to ``jobs`` processes."""
    with tempfile.TemporaryDirectory() as scratch:
        started = []
        for job in range(jobs):
            share = sorted(items)[job::jobs]
            if not share:
                continue
            pattern = "^(" + "|".join(sorted({re.escape(name) for _, name in share})) + ")$"
            output = Path(scratch, f"{job}.json")
            command = [sys.executable, str(HARNESS), "--candidate", "flambeau", "--grad", "--max-samples", str(samples), "--ops", pattern,
                       "--what", ",".join(sorted({kind for kind, _ in share})), "--item-timeout", "60", "--quiet", "--json", str(output)]
            log = Path(scratch, f"{job}.log")
            with log.open("w") as stream:
                started.append((subprocess.Popen(command, cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT), output, log))
        verdicts: dict[Item, dict[str, Any]] = {}
        for process, output, log in started:
            if process.wait() or not output.exists():
                sys.exit(f"the harness itself failed:\n{log.read_text()[-3000:]}")
            for result in json.loads(output.read_text())["results"]:
                verdicts[result["kind"], result["key"]] = result
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "latest.json").write_text(json.dumps(list(verdicts.values()), indent=1))
    return verdicts


def complaint(item: Item, verdict: dict[str, Any] | None) -> str:
    """One line on why an item does not pass."""
    if verdict is None:
        return f"{' '.join(item)}: the harness no longer has it"
    failure = next((f for f in verdict["failures"] if not f["variant"].startswith("error")), {})
    return (f"{' '.join(item)}: {verdict['status']}, {verdict['passed']} of {verdict['total']} checks; "
            f"{failure.get('variant', '')} {failure.get('where', '')}: {str(failure.get('message', ''))[:200]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--update", action="store_true", help="run everything and add what passes to the list")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--max-samples", type=int, default=6)
    options = parser.parse_args()
    if not HARNESS.exists():
        print(f"conformance: skipped, there is no {os.path.relpath(HARNESS, ROOT)} beside this clone")
        return

    wanted = listed(PASSING.read_text()) if PASSING.exists() else set()
    struck = ever_listed() - wanted
    start = time.monotonic()
    verdicts = run(all_items() if options.update else wanted, options.jobs, options.max_samples)
    passing = {item for item, verdict in verdicts.items() if verdict["status"] == "pass"}
    lost = sorted(wanted - passing)
    print(f"conformance: {len(wanted & passing)} of {len(wanted)} listed items pass ({time.monotonic() - start:.0f} s)")
    for item in lost:
        print("  lost:", complaint(item, verdicts.get(item)))
    for item in sorted(struck):
        print("  struck from the list:", *item)
    if options.update:
        PASSING.write_text(HEADER + "".join(f"{kind} {name}\n" for kind, name in sorted(wanted | passing)))
        print(f"  {len(passing - wanted)} new, {len(verdicts) - len(passing)} do not pass yet")
    if lost or struck:
        sys.exit(1)


if __name__ == "__main__":
    main()
