"""Who may import whom: workflows -> activities -> pipeline, adapters -> pipeline, roots see all."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("pipeline", "workflows", "activities", "adapters")
ROOTS = ("worker", "starter", "settings")
OURS = frozenset((*PACKAGES, *ROOTS, "cli", "hosting", "demo", "tests", "bench", "migrations"))

MAY_IMPORT = {
    "pipeline": {"pipeline"},
    "activities": {"activities", "pipeline"},
    "workflows": {"workflows", "activities", "pipeline"},
    "adapters": {"adapters", "pipeline"},
    "settings": set(),
    # the starter's rooms see what the starter sees
    "cli": {
        "cli",
        "settings",
        "adapters",
        "workflows",
        "activities",
        "pipeline",
        "demo",
        "hosting",
    },
    # a host put together: what the worker is made of, and what doctor looks at
    "hosting": {"hosting", "settings", "adapters", "workflows", "pipeline"},
    "starter": {"cli"},
}
HEAVY = ("sqlalchemy", "nats", "pydantic", "pydantic_settings", "psycopg", "adapters", "settings")
"""What a workflow worker must not load through the workflows."""


def sources(name: str) -> Iterator[Path]:
    folder = ROOT / name
    yield from sorted(folder.rglob("*.py")) if folder.is_dir() else [ROOT / f"{name}.py"]


def imported(path: Path) -> set[str]:
    roots: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            roots.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # a relative import stays inside its own package
            roots.add(path.relative_to(ROOT).parts[0] if node.level else (node.module or ""))
    return {root.partition(".")[0] for root in roots}


@pytest.mark.parametrize(("name", "allowed"), MAY_IMPORT.items())
def test_a_room_imports_only_what_lies_inward(name: str, allowed: set[str]) -> None:
    for path in sources(name):
        assert imported(path) & OURS <= allowed, path.relative_to(ROOT)


def test_the_domain_imports_the_standard_library_alone() -> None:
    for path in sources("pipeline"):
        foreign = imported(path) - sys.stdlib_module_names - {"pipeline"}
        assert not foreign, path.relative_to(ROOT)


@pytest.mark.parametrize("name", PACKAGES)
def test_no_room_imports_a_root_or_the_tests(name: str) -> None:
    for path in sources(name):
        outside = {
            "worker",
            "starter",
            "settings",
            "cli",
            "hosting",
            "tests",
            "bench",
            "migrations",
        }
        assert not imported(path) & outside, path.relative_to(ROOT)


def test_importing_the_workflows_loads_nothing_heavy() -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in sources("workflows")
        if path.name != "__init__.py"
    ]
    code = f"import {', '.join(['sys', *modules])}\nprint(*sys.modules)"

    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    loaded = {module.partition(".")[0] for module in result.stdout.split()}
    assert loaded.isdisjoint(HEAVY)
