"""The import order that the README promises, read from the code itself."""

import ast
import subprocess
import sys
from itertools import takewhile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "transformers", "trl", "peft", "accelerate", "deepspeed"}
STAGES = {"source", "invert", "solve", "cycle", "judge", "verify", "pair", "export"}

LAYERS = [
    {"errors", "schema", "mounts", "packing", "sync"},
    {"config", "shards", "database"},
    {"reply", "salvage", "final_answer", "slots", "embedded", "tells", "columns", "lengths", "sketch", "leaks", "reviews"},
    {"journal", "figures", "agreement", "children", "limiter"},
    {"journals", "compact", "folder", "teacher", "source", "invert", "solve", "cycle", "judge", "verify", "pair", "card"},
    {"files"},
    {"control", "joining"},
    {"export", "overlap", "flow", "account", "completions"},
    {"replay", "benchmarks", "accepted", "review", "batch"},
    {"prepare"},
    {"pipeline", "assemble"},
    {"progress", "recheck", "hub"},
    {"build"},
    {"engine"},
    {"cli"},
    {"__main__"},
]
"""Each module may import from the layers above its own line, and from its own line only what `SIDEWAYS` names."""

SIDEWAYS = {("config", "schema"), ("export", "overlap"), ("progress", "account")}


def imports_of(path: Path) -> set[str]:
    """The absolute names of what a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module or ""}
    return names


def own_imports(path: Path) -> set[str]:
    """The r1k_builder modules that a file imports, by their first name."""
    modules = {path.stem for path in (ROOT / "r1k_builder").iterdir()}
    names = (name.split(".") for name in imports_of(path) if name.startswith("r1k_builder."))
    return {parts[1] for parts in names} & modules - {"__init__"}


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def module_files(name: str) -> list[Path]:
    """The files of a module of r1k_builder: one, or those of a package."""
    return files(f"r1k_builder/{name}") or [ROOT / "r1k_builder" / f"{name}.py"]


@pytest.mark.parametrize("path", files("r1k_builder"), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    name = path.relative_to(ROOT / "r1k_builder").parts[0].removesuffix(".py")
    if name == "__init__":
        assert own_imports(path) == set()
        return
    level = next(number for number, layer in enumerate(LAYERS) if name in layer)
    allowed = set().union(*LAYERS[:level]) | {other for module, other in SIDEWAYS if module == name} | {name}
    assert own_imports(path) <= allowed, f"{name} may not import {own_imports(path) - allowed}"


def test_every_module_has_its_layer() -> None:
    packages = {path.parent.name for path in (ROOT / "r1k_builder").glob("*/__init__.py")}
    modules = {path.stem for path in (ROOT / "r1k_builder").glob("*.py")} | packages
    assert set().union(*LAYERS) | {"__init__"} == modules


def test_stages_know_neither_each_other_nor_teacher_nor_journal() -> None:
    for stage in STAGES:
        others = (STAGES - {stage}) | {"teacher", "journal", "pipeline"}
        seen = set().union(*map(own_imports, module_files(stage))) & others
        assert seen <= ({"pair", "verify"} if stage == "export" else set()), f"{stage} imports {seen}"


@pytest.mark.parametrize("path", files("r1k_builder"), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_builder_needs_no_torch(path: Path) -> None:
    roots = {name.split(".")[0] for name in imports_of(path)}
    assert not roots & HEAVY
    assert "r1k_train" not in roots


@pytest.mark.parametrize("path", files("r1k_train"), ids=lambda path: str(path.relative_to(ROOT)))
def test_training_never_imports_the_builder(path: Path) -> None:
    assert "r1k_builder" not in {name.split(".")[0] for name in imports_of(path)}


PACKAGES = ("r1k_builder", "r1k_train")


def test_faults_are_planted_without_knowing_the_checks() -> None:
    assert not {name for name in imports_of(ROOT / "benchmarks" / "faults.py") if name.startswith("r1k_builder.verify")}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_readme_shows_the_tree(package: str) -> None:
    named = tree(package)
    for path in (ROOT / package).glob("*.py"):
        assert path.name.startswith("__") or path.name in named, f"README's tree lacks {package}/{path.name}"


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_of_the_tree_is_missing_from_disk(package: str) -> None:
    named = tree(package)
    assert len(named) > 5
    for name in named:
        assert (ROOT / package / name).exists(), name


def tree(package: str) -> list[str]:
    """The names that README's tree has in a package's folder."""
    lines = (ROOT / "README.md").read_text().split(f"\n{package}/\n", 1)[1].split("```", 1)[0].splitlines()
    return [line.split()[0] for line in takewhile(lambda line: line.startswith("  "), lines)]


@pytest.mark.parametrize("module", ["assemble", "prepare"])
def test_processes_beside_a_build_load_nothing_for_the_network(module: str) -> None:
    """Each of them starts anew with every build, and half its start were these."""
    script = f"import sys, r1k_builder.{module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert not {"aiohttp", "huggingface_hub", "tokenizers", "matplotlib"} & set(loaded)
