"""API keys: a TOML file with the SHA-256 of random 256-bit keys, the accounts each is bound to, and its scopes.

A key reads `dd_<id>_<secret>`. The id is public (logs, `list`, `revoke`); the secret is never stored and never logged.
"""

from __future__ import annotations

import fcntl
import secrets
import tomllib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path
from time import monotonic
from typing import Annotated, Literal, get_args

import structlog
import tomli_w
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from agents.errors import WrongUse
from agents.settings import Settings

log = structlog.get_logger()

Scope = Literal["ingest", "read", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
#: In the place of accounts: all of them.
ALL = "*"
_PREFIX = "dd"
_SECRET_BYTES = 32
_ID_BYTES = 6
_RELOAD_SECONDS = 1.0
#: Compared with when the id is unknown, so that an unknown id takes as long as a wrong secret.
_NOBODY = "0" * 64


@dataclass(frozen=True, slots=True)
class Key:
    """Who may do what. `admin` includes `read`; no scope includes `ingest`."""

    id: str
    name: str
    sha256: str
    accounts: tuple[str, ...]
    scopes: tuple[Scope, ...]
    created: datetime

    def may(self, account: str) -> bool:
        """Whether the account is one of this key's."""
        return ALL in self.accounts or account in self.accounts

    def has(self, scope: Scope) -> bool:
        """Whether the key has the scope."""
        return scope in self.scopes or (scope == "read" and "admin" in self.scopes)


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Annotated[str, Field(pattern="^[0-9a-f]{12}$")]
    name: str = ""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    accounts: Annotated[tuple[str, ...], Field(min_length=1)]
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)]
    created: datetime


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    keys: tuple[_Entry, ...] = ()


_file = TypeAdapter(_File)


def read_keys(file: Path) -> dict[str, Key]:
    """Id -> key; raises `WrongUse` with what is wrong with the file."""
    try:
        parsed = _file.validate_python(tomllib.loads(file.read_text()))
    except OSError as error:
        raise WrongUse(f"{file}: {error.strerror or error}; `drawdown api-key create` makes it") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WrongUse(f"{file}: {error}") from None
    except ValidationError as error:
        # Never the input itself: a key may have been pasted into the wrong field.
        first = error.errors(include_input=False)[0]
        raise WrongUse(f"{file}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    return {entry.id: Key(**entry.model_dump()) for entry in parsed.keys}


def keys_file_of(settings: Settings) -> Path:
    """The file of the keys; raises `WrongUse` when none is named."""
    if settings.api_keys_file is None:
        raise WrongUse(
            "name the file of the API keys with DRAWDOWN_API_KEYS_FILE: that of `drawdown up` is .drawdown/api-keys.toml, and `drawdown api-key create` makes one"
        )
    return settings.api_keys_file


def create_key(file: Path, accounts: Iterable[str], scopes: Iterable[Scope], name: str = "") -> tuple[Key, str]:
    """Add a key to the file, which is made if missing; the key as it is stored, and the text that only its owner has."""
    identity, secret = secrets.token_hex(_ID_BYTES), secrets.token_urlsafe(_SECRET_BYTES)
    text = f"{_PREFIX}_{identity}_{secret}"
    now = datetime.now(UTC).replace(microsecond=0)
    key = Key(identity, name, _digest(text), tuple(accounts), tuple(scopes), now)
    with _changing(file) as keys:
        keys[identity] = key
    return key, text


def revoke_key(file: Path, identity: str) -> Key:
    """Remove a key; running processes notice within seconds."""
    with _changing(file) as keys:
        if identity not in keys:
            raise WrongUse(f"{file} has no key {identity}")
        return keys.pop(identity)


@contextmanager
def _changing(file: Path) -> Iterator[dict[str, Key]]:
    """The keys, written back at the end; one writer at a time, and readers see the old file or the new one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_name(file.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        keys = read_keys(file) if file.exists() else {}
        yield keys
        entries = [asdict(key) | {"accounts": list(key.accounts), "scopes": list(key.scopes)} for key in keys.values()]
        temporary = file.with_name(file.name + ".part")
        temporary.write_text(tomli_w.dumps({"keys": entries}))
        temporary.rename(file)


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


class KeyRing:
    """The keys of a running process: read again when the file changes; a file that became unreadable changes nothing."""

    def __init__(self, file: Path, clock: Callable[[], float] = monotonic) -> None:
        self._file = file
        self._clock = clock
        self._seen = self._content()  # first: what changes between the two is read again
        self._keys = read_keys(file)
        self._checked = clock()

    def find(self, text: str) -> Key | None:
        """The key that this text is, in time that tells nothing about the stored ones."""
        self._reload()
        prefix, _, rest = text.partition("_")
        identity, _, _ = rest.partition("_")
        key = self._keys.get(identity) if prefix == _PREFIX else None
        same = compare_digest(_digest(text), key.sha256 if key else _NOBODY)
        return key if key and same else None

    def still_valid(self, key: Key) -> bool:
        """Whether a key that was found before has not been revoked or changed."""
        self._reload()
        return self._keys.get(key.id) == key

    def _reload(self) -> None:
        if self._clock() - self._checked < _RELOAD_SECONDS:
            return
        self._checked = self._clock()
        content = self._content()
        if content == self._seen:
            return
        self._seen = content
        try:
            self._keys = read_keys(self._file)
            log.info("API keys read again", keys=len(self._keys))
        except WrongUse as error:
            log.error("the API keys file is unreadable: the keys stay as they were", error=str(error))

    def _content(self) -> bytes | None:
        """Time, size and inode may all be those of before: a key that was made and revoked within the clock tick of a file system."""
        try:
            return self._file.read_bytes()
        except OSError:
            return None
