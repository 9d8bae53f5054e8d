"""API keys and rate limits without servers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.api.auth import RateLimit
from agents.api.keys import KeyRing, create_key, read_keys, revoke_key
from agents.errors import WrongUse


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "keys.toml"


def test_a_key_is_found_by_its_text_alone(file: Path) -> None:
    """Not by its id, a part, or another's secret; its text is nowhere in the file."""
    key, text = create_key(file, ["a", 'b "ü" \\ 😀'], ["read"], "a name")
    other, second = create_key(file, ["*"], ["admin"])
    ring = KeyRing(file)
    assert (ring.find(text), ring.find(second)) == (key, other)
    spoiled = f"dd_{key.id}_{second.split('_', 2)[2]}"
    assert not any(
        map(ring.find, ("", "dd", key.id, f"dd_{key.id}", text[:-1], text + "a", spoiled, text.upper(), "ü"))
    )
    assert text.split("_", 2)[2] not in file.read_text()
    assert len(text.split("_", 2)[2]) == 43, "256 bits"


def test_accounts_and_scopes(file: Path) -> None:
    """`admin` reads too; `*` is every account; nothing else is more than it says."""
    some, _ = create_key(file, ["a"], ["admin"])
    every, _ = create_key(file, ["*"], ["ingest"])
    assert (some.may("a"), some.may("b"), some.may("*"), every.may("b")) == (True, False, False, True)
    assert (some.has("read"), some.has("ingest"), every.has("read"), every.has("ingest")) == (True, False, False, True)


def test_changes_of_the_file_are_noticed(file: Path) -> None:
    """New and revoked keys within a second of the clock; a file that became unreadable changes nothing."""
    now = 0.0
    key, text = create_key(file, ["a"], ["read"])
    ring = KeyRing(file, lambda: now)
    added, second = create_key(file, ["b"], ["read"])
    revoke_key(file, key.id)
    assert (ring.find(text), ring.find(second)) == (key, None)
    now = 2.0
    assert (ring.find(text), ring.find(second)) == (None, added)
    assert (ring.still_valid(key), ring.still_valid(added)) == (False, True)
    file.write_text("keys = 3")
    now = 4.0
    assert ring.find(second) == added
    with pytest.raises(WrongUse):
        revoke_key(file, added.id)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("keys = 3", "keys"), ("[[keys]]\nid = 'x'", "keys.0"), ("=", "Invalid"),
        ("[[keys]]\nid='0123456789ab'\nsha256='dd_secret'\naccounts=['a']\nscopes=['read']\ncreated=2026-01-01T00:00:00Z", "sha256"),
    ],
)  # fmt: skip
def test_a_wrong_file(file: Path, text: str, said: str) -> None:
    """One line that names the place, and never what stands there."""
    file.parent.mkdir()
    file.write_text(text)
    with pytest.raises(WrongUse, match=said) as error:
        read_keys(file)
    assert "dd_secret" not in str(error.value)


def test_the_commands(file: Path) -> None:
    """Create prints the key once, list never, revoke ends it; wrong use is one line and exit code 2."""

    def run(*arguments: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "agents.cli", "api-key", *arguments]
        env = os.environ | {"DRAWDOWN_API_KEYS_FILE": str(file)}
        result = subprocess.run(command, env=env, capture_output=True, text=True, timeout=30, check=False)
        assert result.returncode == code, result.stderr
        return result.stdout if code == 0 else result.stderr

    text = run(
        "create", "--account", "a", "--account", "b", "--scope", "read", "--scope", "ingest", "--name", "n"
    ).strip()
    found = KeyRing(file).find(text)
    assert found is not None
    assert (found.accounts, found.scopes, found.name) == (("a", "b"), ("ingest", "read"), "n")
    (listed,) = json.loads(run("list", "--json"))
    assert (listed["id"], listed["accounts"]) == (found.id, ["a", "b"])
    assert "sha256" not in listed
    assert found.id in run("revoke", found.id)
    assert json.loads(run("list", "--json")) == []
    assert "has no key" in run("revoke", found.id, code=2)
    assert "--scope knows" in run("create", "--account", "a", "--scope", "write", code=2)


@given(st.floats(0.1, 100), st.integers(1, 20), st.lists(st.floats(0, 3), max_size=80))
def test_the_token_bucket(rate: float, burst: int, pauses: list[float]) -> None:
    """In any stretch of time there are never more than burst + rate x seconds; who waits as told is admitted."""
    now, admitted = 0.0, []
    limit = RateLimit(rate, burst, lambda: now)
    for pause in pauses:
        now += pause
        wait = limit.wait_seconds("key")
        if wait:
            now += wait + 1e-6
            assert limit.wait_seconds("key") == 0
        admitted.append(now)
    for i, first in enumerate(admitted):
        for n, last in enumerate(admitted[i:], start=1):
            assert n <= burst + rate * (last - first) + 1e-6
    assert limit.wait_seconds("another") == 0
