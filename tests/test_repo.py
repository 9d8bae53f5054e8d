"""House rules as tests."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from agents.settings import Settings

ROOT = Path(__file__).parents[1]
MODULES = sorted(p for folder in ("schemas", "pipeline", "agents") for p in (ROOT / folder).rglob("*.py"))
LINES_MAX, FUNCTION_LINES_MAX = 300, 60


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_modules_and_functions_are_short(path: Path) -> None:
    """What does not fit on a screen or two is two things."""
    text = path.read_text()
    assert text.count("\n") <= LINES_MAX
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < FUNCTION_LINES_MAX, node.name


@pytest.mark.parametrize("path", [p for p in MODULES if p.parent.name == "pipeline"], ids=lambda p: p.name)
def test_the_core_has_no_floats(path: Path) -> None:
    """Integers in the ledger, decimals in money."""
    for node in ast.walk(ast.parse(path.read_text())):
        assert not (isinstance(node, ast.Constant) and isinstance(node.value, float)), node.lineno
        assert not (isinstance(node, ast.Name) and node.id == "float"), node.lineno
        quotient = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)
        assert not quotient or "Decimal(" in ast.unparse(node), (
            f"{path.name}:{node.lineno}: / makes a float of integers"
        )


def test_every_setting_is_in_the_readme() -> None:
    """A variable that nobody can find does not exist."""
    readme = (ROOT / "README.md").read_text()
    missing = [name for name in Settings.model_fields if f"DRAWDOWN_{name.upper()}`" not in readme]
    assert not missing


def test_the_make_targets_of_the_readme_exist() -> None:
    """Everything the README says works when pasted."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"make ([a-z]+)", (ROOT / "README.md").read_text()))
    assert {"demo", "test"} <= named <= targets


def test_the_compose_file() -> None:
    """Images are pinned, long-running services are checked and restarted, and Docker accepts the file."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for name, service in services.items():
        assert re.search(r":v?\d+\.\d+", service["image"]), name
        assert name == "setup" or {"healthcheck", "restart"} <= service.keys(), name
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("no docker compose here; the structure above was checked")
    subprocess.run([docker, "compose", "config", "--quiet"], cwd=ROOT, check=True)
