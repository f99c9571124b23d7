"""The map in ARCHITECTURE.md: complete, and imports point down it.

Oracle: the table itself. Sees: a module that is not on the map, an import that points up, a judge that sees a process,
a rank that imports Hypothesis.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from siglip_verify.world.template import BASE

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "siglip_verify"
ALONE = {"oracle", "plan", "loss"}
JUDGES = {"checks", "report"}
PROCESSES = {
    "multiprocessing",
    "socket",
    "subprocess",
    "torch.distributed",
    "siglip_verify.world",
    "siglip_verify.observe",
}


@cache
def rows() -> list[list[str]]:
    table = (ROOT / "ARCHITECTURE.md").read_text().split("## Map")[1].split("## Decisions")[0]
    return [re.findall(r"`(\w+)/?`", row.split("|")[1]) for row in table.splitlines() if row.startswith("| `")]


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache
def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text())))


def imports(path: Path) -> Iterator[str]:
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) + 1 - node.level]) + "." if node.level else ""
            module = (base + (node.module or "")).rstrip(".")
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


NAME_OF = {
    path: ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
}
MODULES = [p for p in sorted(PACKAGE.rglob("*.py")) if part_of(p) not in ("__init__", "__main__")]


def test_the_map_names_every_part_of_the_package_and_nothing_else() -> None:
    assert {name for row in rows() for name in row} == {part_of(path) for path in MODULES}


def test_imports_point_down_the_map() -> None:
    level = {name: index for index, row in enumerate(rows()) for name in row}
    for path in MODULES:
        here = part_of(path)
        for name in imports(path):
            there = name.split(".")[1] if name.startswith("siglip_verify.") else None
            if there in level and there != here:
                assert here not in ALONE, f"{path}: {here} imports nothing of the package, yet imports {name}"
                assert level[there] >= level[here], f"{path}: {here} may not import {name}, which stands above it"
            if here in JUDGES:
                outside = [process for process in PROCESSES if name == process or name.startswith(process + ".")]
                assert not outside, f"{path}: {here} judges or renders records; it imports {name}"


def test_the_reference_loss_imports_torch_and_the_standard_library_alone() -> None:
    for path in MODULES:
        if part_of(path) == "loss":
            roots = {name.split(".")[0] for name in imports(path)}
            assert roots <= {"__future__", "collections", "typing", "dataclasses", "functools", "math", "enum",
                             "contextlib", "warnings", "itertools", "numbers", "operator", "torch",
                             "siglip_verify"}, path  # fmt: skip


def sent_to_ranks() -> Iterator[str]:
    """Yield the modules of the functions that `worlds.run(world_size, function, ...)` is called with."""
    for path in MODULES:
        own = {node.name: NAME_OF[path] for node in nodes(path) if isinstance(node, ast.FunctionDef)}
        imported = {name.rpartition(".")[2]: name for name in imports(path)}
        for call in nodes(path):
            if isinstance(call, ast.Call) and re.search(r"\bworlds\.run$", ast.unparse(call.func)):
                function = ast.unparse(call.args[1]).split(".")[0]
                name = {**imported, **own}.get(function, "")
                yield name if name in NAME_OF.values() else name.rpartition(".")[0]


def test_ranks_import_no_hypothesis() -> None:
    modules = {name: path for path, name in NAME_OF.items()}
    jobs = {*sent_to_ranks(), "siglip_verify.bugs"} - {""}  # those of the catalogue travel by name
    todo, imported = [*BASE, *jobs], set[str]()
    while todo:
        name = todo.pop()
        parents = name.split(".")
        for each in {".".join(parents[:end]) for end in range(1, len(parents) + 1)} - imported:
            imported.add(each)
            if each in modules and each != "siglip_verify":  # the package itself imports when names are used
                todo += imports(modules[each])
    assert jobs >= {f"siglip_verify.{name}" for name in ("run.step", "run.cost", "train.jobs", "claims.jobs")}
    assert imported >= {*jobs, "siglip_verify.loss.siglip", "torch"}
    assert "hypothesis" not in imported
