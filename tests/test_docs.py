"""The documentation's programs run, and its links lead somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
PROGRAMS = [pytest.param(program, id=f"{page.name} {i}") for page in PAGES
            for i, program in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL))
            if program.startswith("import flambeau")]


@pytest.mark.parametrize("program", PROGRAMS)
def test_program_runs(program, capsys):
    names = {}
    exec(program, names)
    printed = capsys.readouterr().out.splitlines()
    promised = re.findall(r"print\(.*?\)\s+# (tensor\(.*)", program)
    assert [line for line in printed if line in promised] == promised


def test_the_walk_through_the_source_names_what_is_there():
    """Every file that docs/architecture.md names exists, and every name in code style stands somewhere in the package."""
    package = ROOT / "flambeau"
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    sources = {path.relative_to(package).as_posix(): path.read_text(encoding="utf-8") for path in package.rglob("*.py")}
    everything = set(re.findall(r"\w+", " ".join(sources.values())))
    spans = re.findall(r"`([^`\n]+)`", text)
    files = [s for s in spans if s.endswith(".py") and "/" in s and not s.startswith("tests/")]
    assert len(files) > 15
    assert not [f for f in files if f not in sources]
    for file, names in re.findall(r"`(\w+/\w+\.py)`: ((?:`\w+`(?:, )?)+)", text):
        for name in re.findall(r"\w+", names):
            assert re.search(rf"(def|class) {name}\b|^{name}\b", sources[file], re.MULTILINE), f"{file} has no {name}"
    names = [s for s in spans if re.fullmatch(r"_?[A-Za-z]\w*", s)]
    assert not [n for n in names if n.removesuffix("_") not in everything and not (package / n).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of_the_pages_exist(page):
    from flambeau.__main__ import USAGE

    words = set(re.findall(r"python -m flambeau (\w+)", page.read_text(encoding="utf-8")))
    assert all(re.search(rf"^  {word}\b", USAGE, re.MULTILINE) for word in words)
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"`make (\w+)", page.read_text(encoding="utf-8"))) <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert not missing
