"""What is kept of compiled code: it is used again, unless it may not be that of these sources."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pipeline.compiled

USE = "from pipeline.compiled.caller import f; value = f(); print(value, *map(len, (f.stats.cache_hits, f.stats.cache_misses)))"
CALLER = """
from pipeline.compiled import compiled
from pipeline.compiled.called import g
from schemas import FACTOR

@compiled
def f():
    return g() * FACTOR
"""


def test_code_is_kept_and_never_stale(tmp_path: Path) -> None:
    """A change of a module that a function calls, or takes a constant from, is a change of the function; and so is a damaged file."""
    package = tmp_path / "pipeline" / "compiled"
    for folder in (package, tmp_path / "schemas"):
        folder.mkdir(parents=True)
    shutil.copy(pipeline.compiled.__file__, package)
    (package / "caller.py").write_text(CALLER)

    def use(called: int, factor: int) -> str:
        (package / "called.py").write_text(
            f"from pipeline.compiled import compiled\n@compiled\ndef g(): return {called}\n"
        )
        (tmp_path / "schemas" / "__init__.py").write_text(f"FACTOR = {factor}\n")
        environment = {**os.environ, "PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "kept")}
        # Python looks at whole seconds and the size: what is rewritten at once would be run as it was.
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
        done = subprocess.run(
            [sys.executable, "-c", USE], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    assert use(2, 5) == "10 0 1"
    assert use(2, 5) == "10 1 0"
    assert use(3, 5) == "15 0 1"
    assert use(3, 7) == "21 0 1"
    for ending in ("nbi", "nbc"):
        kept = [*tmp_path.glob(f"kept/**/*.{ending}")]
        assert kept
        for file in kept:
            file.write_bytes(b"")
        assert use(3, 7) == "21 0 1"
        assert use(3, 7) == "21 1 0"
