"""Who may import whom (checked over the syntax trees), and what ``import flambeau`` and a warm run may load.

The parts and their order are the journey of a training step: see ``docs/architecture.md``.
"""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "flambeau"
FILES = sorted(PACKAGE.rglob("*.py"))

# What each part may import besides itself and `core`.  "api" is the package itself: `import flambeau`.
API = {"api", "ops.composite", "autograd", "nn", "optim", "utils", "io", "random", "linalg", "fft", "special", "version"}
ALLOWED = {
    "core": set(),
    "version": set(),
    "ir": set(),
    "schedule": {"ir"},
    "render": {"ir", "runtime.cpu"},
    "runtime": {"ir", "version"},
    "ops": {"ir", "stream.record", "autograd", "linalg", "api"},       # a recorded call makes its graph node in the same breath
    "autograd": {"stream", "ops"},
    "stream": {"schedule", "render", "runtime", "ops", "ir", "version"},
    "tensor": {"autograd", "stream", "ops", "ir", "runtime", "random", "cuda", "api"},
    "random": {"ir", "runtime.twister", "tensor"},
    "cuda": {"amp", "api"},
    "cpu": {"amp", "api"},
    "amp": {"api", "ops.casting", "ops.composite"},
    "backends": set(),
    "return_types": {"ops", "tensor"},
    **dict.fromkeys(("nn", "optim", "utils", "io", "linalg", "fft", "func", "jit", "testing", "special", "distributions", "distributed", "serialization"), API),
}
TOOLS = {"cli", "visual", "__main__"}       # look at everything; nobody but a tool imports them
UNRESTRICTED = {"api", *TOOLS}              # `flambeau/__init__.py` is the front door


def part_of(module):
    """``flambeau.nn.modules.linear`` is in part ``nn``; ``flambeau`` itself is ``api``."""
    return [*module.split("."), "api"][1]


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def exists(module):
    path = ROOT.joinpath(*module.split("."))
    return path.with_suffix(".py").exists() or path.is_dir()


def is_type_checking(node):
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports(path, top_level_only=False):
    """Yields (line number, imported module) for what runs; imports under ``if TYPE_CHECKING`` do not."""
    name = module_name(path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]

    def visit(node):
        for child in ast.iter_child_nodes(node):
            if is_type_checking(child):
                for other in child.orelse:
                    yield from visit(other)
            elif isinstance(child, ast.Import):
                yield from ((child.lineno, alias.name) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = package.rsplit(".", child.level - 1)[0] if child.level else ""
                source = ".".join(filter(None, (base, child.module)))
                for alias in child.names:
                    inner = f"{source}.{alias.name}"
                    yield child.lineno, inner if source.startswith("flambeau") and exists(inner) else source
            elif not (top_level_only and isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))):
                yield from visit(child)

    return list(visit(ast.parse(path.read_text(encoding="utf-8"))))


def may_import(mine, module):
    theirs = part_of(module)
    if theirs in ("core", mine):
        return True
    if theirs in TOOLS:
        return mine in TOOLS
    dotted = module.removeprefix("flambeau.")
    return mine in UNRESTRICTED or theirs in ALLOWED[mine] or any(f"{dotted}.".startswith(f"{entry}.") for entry in ALLOWED[mine])


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_follow_the_journey(path):
    name = module_name(path)
    mine = part_of(name)
    assert mine in ALLOWED or mine in UNRESTRICTED, f"{name}: a new part of the package needs a line in ALLOWED"
    wrong = []
    for line, module in imports(path):
        assert module.partition(".")[0] != "torch", f"{path}:{line}: the package never imports PyTorch"
        if module.partition(".")[0] != "flambeau":
            continue
        if not may_import(mine, module):
            wrong.append(f"{path.relative_to(ROOT)}:{line} imports {module}")
    assert not wrong, f"{mine} may import {sorted(ALLOWED.get(mine, set()) | {'core'})}:\n" + "\n".join(wrong)


def test_the_rules_see_a_wrong_import():
    """The check itself can fail: relative, nested and absolute imports are all found."""
    source = ROOT / "flambeau" / "ir" / "_example.py"       # never written: only its place matters
    tree = """
from ..nn import Linear
def f():
    import flambeau.tensor.tensor
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from ..optim import SGD
"""

    class Example(type(source)):
        def read_text(self, **_):
            return tree

    found = [module for _, module in imports(Example(source))]
    assert found == ["flambeau.nn", "flambeau.tensor.tensor", "typing"]
    assert not may_import("ir", "flambeau.nn") and not may_import("nn", "flambeau.tensor.tensor")
    assert not may_import("nn", "flambeau.cli.run")
    assert may_import("ir", "flambeau.core.dtype") and may_import("nn", "flambeau.ops.composite") and may_import("api", "flambeau.nn")


def loaded_after(code, **environment):
    """Names of all modules in a fresh interpreter after running ``code``."""
    program = f"{code}\nimport sys\nprint('LOADED', *sys.modules)"
    process = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    return set(next(line for line in process.stdout.splitlines() if line.startswith("LOADED")).split()[1:])


def test_import_is_light():
    assert not loaded_after("import flambeau") & {"numpy", "llvmlite", "torch", "matplotlib", "asyncio", "multiprocessing"}


def test_nothing_on_the_import_path_imports_numpy_or_llvmlite():
    """Also where an ``if`` or ``try`` kept the last test from seeing it."""
    modules = {name for name in loaded_after("import flambeau; import flambeau.nn; import flambeau.optim") if name.startswith("flambeau")}
    wrong = [f"{path.relative_to(ROOT)}:{line} {module}" for path in FILES if module_name(path) in modules
             for line, module in imports(path, top_level_only=True) if module.partition(".")[0] in ("numpy", "llvmlite")]
    assert not wrong


TRAINING = """
import flambeau as torch
import flambeau.nn as nn
torch.manual_seed(0)
x = torch.rand(100, 1)
y = 2 * x + 3
model, criterion = nn.Linear(1, 1), nn.MSELoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _ in range(3):
    loss = criterion(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(loss.item(), model.weight)
"""


def test_a_warm_run_loads_neither_numpy_nor_llvm(tmp_path):
    cold = loaded_after(TRAINING, FLAMBEAU_CACHE=str(tmp_path))
    warm = loaded_after(TRAINING, FLAMBEAU_CACHE=str(tmp_path))
    assert "flambeau.runtime.llvm" in cold, "the first run compiles: otherwise this test proves nothing"
    assert not cold & {"llvmlite", "dataclasses", "inspect"}        # they take as long to import as a kernel to compile
    assert not warm & {"flambeau.runtime.llvm", "numpy", "llvmlite"}
