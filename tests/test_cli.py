"""``python -m flambeau``: a script run by it behaves as one run by Python itself, except that ``torch`` is Flambeau."""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flambeau.cli import environment
from flambeau.runtime import images

ROOT = Path(__file__).resolve().parent.parent


def python(*words, cwd, **environment):
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    everything = {**os.environ, "PYTHONPATH": path, **environment}
    return subprocess.run([sys.executable, *words], cwd=cwd, env=everything, capture_output=True, text=True)


def flambeau(*words, cwd, **environment):
    return python("-m", "flambeau", *words, cwd=cwd, **environment)


def write(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


# ---------------------------------------------------------------------------------------------------- as if run by Python

ACTIONS = """
import sys
import __main__

print(sys.argv, __name__, __file__, __package__, __doc__, sys.path[0], __main__.__file__)
print(type(__loader__).__name__, __spec__ and __spec__.name)
def chain():
    try:
        1 / 0
    except ZeroDivisionError as error:
        raise ValueError("x") from error
action = sys.argv[1:2]
if action == ["chain"]: chain()
if action == ["exit"]: sys.exit("goodbye")
if action == ["status"]: sys.exit(7)
if action == ["interrupt"]: raise KeyboardInterrupt
if action == ["import"]: import there_is_no_such_module
if action == ["hook"]:
    sys.excepthook = lambda kind, error, traceback: print("hooked", kind.__name__, error)
    raise KeyError("k")
if action == ["atexit"]:
    import atexit
    atexit.register(print, "at exit")
    raise RuntimeError
"""


@pytest.mark.parametrize("words", [
    ["script.py"], ["script.py", "a", "-b", "--", "-m"], ["./script.py", "chain"], ["script.py", "exit"], ["script.py", "status"],
    ["script.py", "interrupt"], ["script.py", "import"], ["script.py", "hook"], ["script.py", "atexit"], ["wrong.py"], ["missing.py"],
    ["folder", "a"], ["-m", "package", "a"], ["-m", "package.inner", "status"], ["-m", "no_such_package"], ["-m", "json.tool", "--help"],
], ids=" ".join)
def test_like_python(words, tmp_path):
    write(tmp_path, "script.py", '"""Doc."""' + ACTIONS)
    write(tmp_path, "wrong.py", "x = (\n")
    for name in ("folder/__main__.py", "package/__init__.py", "package/__main__.py", "package/inner.py"):
        write(tmp_path, name, "" if name.endswith("__init__.py") else ACTIONS)
    plain, ours = python(*words, cwd=tmp_path), flambeau("run", *words, cwd=tmp_path)
    assert ours.stdout == plain.stdout
    assert ours.stderr == plain.stderr
    assert ours.returncode == plain.returncode


def test_traceback_of_a_module_has_no_frame_of_the_runner(tmp_path):
    write(tmp_path, "package/__main__.py", ACTIONS)
    error = flambeau("run", "-m", "package", "chain", cwd=tmp_path).stderr
    assert "package/__main__.py" in error and "ValueError: x" in error
    assert "flambeau" not in error and "runpy" not in error


# ---------------------------------------------------------------------------------------------------- torch is Flambeau

def test_torch_and_its_submodules_are_flambeau(tmp_path):
    write(tmp_path, "script.py", """
import sys
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim.lr_scheduler
from torch import Tensor, nn as same, optim
from torch.utils.data import DataLoader, TensorDataset
from torch.nn.parameter import Parameter
import flambeau
import flambeau.nn.functional
import flambeau.utils.data as data

assert torch is flambeau and nn is flambeau.nn is same and optim is flambeau.optim
assert F is flambeau.nn.functional and sys.modules["torch.nn.functional"] is F
assert DataLoader is data.DataLoader and Parameter is flambeau.nn.Parameter
assert nn.__name__ == "flambeau.nn" and nn.__spec__.name == "flambeau.nn" and torch.__spec__.name == "flambeau"
print(torch.ones(2) + 1)
""")
    result = flambeau("run", "script.py", cwd=tmp_path)
    assert (result.stdout, result.stderr) == ("tensor([2., 2.])\n", "")


def test_pytorch_itself_is_not_imported_even_where_it_lies_on_the_path(tmp_path):
    write(tmp_path, "torch/__init__.py", "raise SystemExit('PyTorch was imported')")
    write(tmp_path, "script.py", "import torch\nprint(torch.__name__)")
    assert flambeau("run", "script.py", cwd=tmp_path).stdout == "flambeau\n"


@pytest.mark.parametrize(("line", "kind", "missing"), [
    ("import torch.warp_drive", "ModuleNotFoundError", "torch.warp_drive"),
    ("import torch.nn.warp_drive", "ModuleNotFoundError", "torch.nn.warp_drive"),
    ("from torch.warp_drive import engage", "ModuleNotFoundError", "torch.warp_drive"),
    ("from torch import warp_drive", "ImportError", "torch.warp_drive"),
    ("from torch.nn.functional import warp_drive", "ImportError", "torch.nn.functional.warp_drive"),
    ("import torch; torch.warp_drive(1)", "AttributeError", "torch.warp_drive"),
    ("import torch; torch.nn.WarpDrive()", "AttributeError", "torch.nn.WarpDrive"),
    ("import torch; torch.ones(1).warp_drive()", "AttributeError", "torch.Tensor.warp_drive"),
])
def test_a_missing_name_says_so_plainly(line, kind, missing, tmp_path):
    write(tmp_path, "script.py", line)
    result = flambeau("run", "script.py", cwd=tmp_path)
    assert result.returncode == 1
    assert kind in result.stderr
    last = result.stderr.splitlines()[-2:]
    assert any("Flambeau" in line and missing in line and "yet" in line for line in last), result.stderr
    assert "cli/" not in result.stderr


def test_a_script_can_ask_whether_a_module_exists(tmp_path):
    write(tmp_path, "script.py", """
try:
    import torch.warp_drive
except ImportError:
    print("without")
import torch
print(hasattr(torch, "warp_drive"), hasattr(torch, "ones"))
""")
    result = flambeau("run", "script.py", cwd=tmp_path)
    assert (result.stdout, result.stderr) == ("without\nFalse True\n", "")


def test_the_users_own_attribute_error_gets_no_note(tmp_path):
    write(tmp_path, "script.py", "class Mine: pass\nMine().thing")
    assert "Flambeau" not in flambeau("run", "script.py", cwd=tmp_path).stderr


@pytest.mark.parametrize("method", sorted(multiprocessing.get_all_start_methods()))
def test_processes_that_the_script_starts_find_torch_too(method, tmp_path):
    write(tmp_path, "script.py", f"""
import torch
from torch.utils.data import DataLoader, Dataset
import multiprocessing

class Squares(Dataset):
    def __len__(self):
        return 4
    def __getitem__(self, i):
        return torch.tensor(i) ** 2

def double(x):
    return torch.add(x, x)

if __name__ == "__main__":
    for batch in DataLoader(Squares(), batch_size=2, num_workers=1, multiprocessing_context="{method}"):
        print(batch)
    with multiprocessing.get_context("{method}").Pool(1) as pool:
        print(pool.map(double, [torch.ones(2)]))
""")
    result = flambeau("run", "script.py", cwd=tmp_path)
    assert (result.stdout, result.stderr) == ("tensor([0, 1])\ntensor([4, 9])\n[tensor([2., 2.])]\n", "")


# ---------------------------------------------------------------------------------------------------- explain

TRAINING = """
import sys
import torch
w = torch.ones(3, requires_grad=True)
for _ in range(3):
    loss = (w * torch.arange(3.0) - 1).square().mean()
    loss.backward()
    with torch.no_grad():
        w -= 0.1 * w.grad
    w.grad = None
    print(f"{loss.item():.4f}", sys.argv)
"""


def test_explain_runs_the_script_and_tells_what_happened(tmp_path):
    write(tmp_path, "script.py", TRAINING)
    plain, told = flambeau("run", "script.py", "a", cwd=tmp_path), flambeau("explain", "script.py", "a", cwd=tmp_path)
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.startswith(plain.stdout)
    report = told.stdout[len(plain.stdout):]
    for words in ("kernel 0: calls", "reads ", "writes ", "operations", "plans: ", "found in the cache", "machine code: "):
        assert words in report


@pytest.mark.parametrize(("option", "words"), [("--loops", "for "), ("--llvm", "define ")])
def test_explain_shows_the_code(option, words, tmp_path):
    write(tmp_path, "script.py", TRAINING)
    result = flambeau("explain", option, "script.py", cwd=tmp_path)
    assert result.returncode == 0 and words in result.stdout
    assert words not in flambeau("explain", "script.py", cwd=tmp_path).stdout


def test_explain_of_a_script_that_fails(tmp_path):
    write(tmp_path, "script.py", "import torch\nprint(torch.ones(3).exp())\nraise ValueError('here')")
    plain, told = flambeau("run", "script.py", cwd=tmp_path), flambeau("explain", "script.py", cwd=tmp_path)
    assert told.returncode == 1 and told.stderr == plain.stderr
    assert "kernel 0: calls" in told.stdout


def test_explain_of_a_script_that_leaves_a_failure_behind(tmp_path):
    write(tmp_path, "script.py", "import torch\nx = torch.arange(3)[torch.tensor([5])]")
    told = flambeau("explain", "script.py", cwd=tmp_path)
    assert told.returncode == 1 and "index 5 is out of bounds" in told.stderr and "script.py, line 2" in told.stderr
    assert "calls [1] (_index)" in told.stdout


@pytest.mark.parametrize("words", [[], ["--loops"], ["--wrong", "script.py"]])
def test_explain_without_a_script(words, tmp_path):
    result = flambeau("explain", *words, cwd=tmp_path)
    assert result.returncode == 1 and "which script" in result.stderr and not result.stdout


# ---------------------------------------------------------------------------------------------------- the other commands

@pytest.mark.parametrize("words", [[], ["warp"]])
def test_a_wrong_command_shows_the_usage(words, tmp_path):
    result = flambeau(*words, cwd=tmp_path)
    assert result.returncode == 1 and "usage: python -m flambeau" in result.stderr


def test_help(tmp_path):
    result = flambeau("--help", cwd=tmp_path)
    assert result.returncode == 0 and "run SCRIPT" in result.stdout


def test_run_without_a_script(tmp_path):
    assert "which script" in flambeau("run", cwd=tmp_path).stderr
    assert "name of a module" in flambeau("run", "-m", cwd=tmp_path).stderr


def test_environment(tmp_path):
    result = flambeau("env", cwd=tmp_path, FLAMBEAU_CACHE=str(tmp_path / "cache"), OMP_NUM_THREADS="1")
    assert result.returncode == 0, result.stderr
    rows = dict(line.split(None, 1) for line in result.stdout.splitlines())
    assert {"flambeau", "python", "numpy", "llvmlite", "processor", "vectors", "cache", "FLAMBEAU_CACHE", "OMP_NUM_THREADS"} <= set(rows)
    assert rows["vectors"] in ("128 bits", "256 bits", "512 bits")


def test_cache_entries_may_vanish_while_they_are_counted(tmp_path, monkeypatch):
    write(tmp_path, "there.image", "123")
    monkeypatch.setattr(images, "directory", lambda: str(tmp_path))
    monkeypatch.setattr(os, "walk", lambda top: [(str(top), [], ["gone.tmp", "there.image"])])
    assert environment._cache_contents() == (1, 3)


def test_environment_tells_what_runs_kernels(tmp_path):
    def kernels(**environment):
        result = flambeau("env", cwd=tmp_path, **environment)
        assert result.returncode == 0, result.stderr
        return dict(line.split(None, 1) for line in result.stdout.splitlines())["kernels"]
    assert kernels(FLAMBEAU_RENDERER="llvm") == "machine code (LLVM)"
    assert kernels(FLAMBEAU_RENDERER="reference").startswith("reference (NumPy)")
    write(tmp_path, "broken/llvmlite/__init__.py", "")
    paths = os.pathsep.join([str(tmp_path / "broken"), str(ROOT)])
    result = subprocess.run([sys.executable, "-m", "flambeau", "env"], cwd=tmp_path, capture_output=True, text=True,
                            env={**os.environ, "PYTHONPATH": paths, "FLAMBEAU_RENDERER": "llvm"})
    assert "reference (NumPy): llvmlite cannot be loaded (it has no " in result.stdout, result.stderr


def test_cache_clear(tmp_path):
    cache = tmp_path / "cache"
    write(tmp_path, "script.py", "import torch\nprint((torch.rand(10).exp() + 1).sum().item())")
    assert flambeau("run", "script.py", cwd=tmp_path, FLAMBEAU_CACHE=str(cache)).returncode == 0
    before = flambeau("cache", cwd=tmp_path, FLAMBEAU_CACHE=str(cache)).stdout
    assert str(cache) in before and " 0 entries" not in before
    assert "removed" in flambeau("cache", "clear", cwd=tmp_path, FLAMBEAU_CACHE=str(cache)).stdout
    assert " 0 entries" in flambeau("cache", cwd=tmp_path, FLAMBEAU_CACHE=str(cache)).stdout
    assert "expected nothing" in flambeau("cache", "empty", cwd=tmp_path, FLAMBEAU_CACHE=str(cache)).stderr
