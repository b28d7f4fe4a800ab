"""The examples run under ``python -m flambeau run`` and print what they print under PyTorch."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def run(name):
    process = subprocess.run([sys.executable, "-m", "flambeau", "run", f"examples/{name}.py"], cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    return process.stdout


def test_the_tutorial_prints_what_it_prints_under_pytorch():
    picture = ROOT / "examples" / "output" / "tutorial.png"
    picture.unlink(missing_ok=True)
    printed, recorded = (text.splitlines() for text in (run("tutorial"), (ROOT / "tests" / "recorded" / "tutorial.txt").read_text()))
    assert len(printed) == len(recorded)
    for ours, theirs in zip(printed, recorded):
        if re.fullmatch(r"[Wb] = [\d.]+", theirs):      # all 17 digits of a float32 that 1000 steps led to
            assert ours[:4] == theirs[:4] and float(ours[4:]) == pytest.approx(float(theirs[4:]), rel=1e-5)
        else:
            assert ours == theirs
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_digits_are_read():
    picture = ROOT / "examples" / "output" / "digits.png"
    picture.unlink(missing_ok=True)
    output = run("digits")
    assert float(re.search(r"Reads ([\d.]+)% of the held-out images", output)[1]) >= 96
    assert picture.read_bytes().startswith(b"\x89PNG")
