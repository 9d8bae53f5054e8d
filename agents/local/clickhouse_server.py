"""The ClickHouse engine of the chdb-core wheel, listening on loopback: `python -m agents.local.clickhouse_server`.

The wheel's extension holds the real server code. Loaded without the chdb package (whose import starts another engine first),
its `query` runs clickhouse-local, which can open the HTTP and TCP listeners. A stand-in for development and tests.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.machinery
import importlib.util
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

_RTLD_DEEPBIND = 8
_CONFIG = """\
<clickhouse>
  <http_port>{http}</http_port><tcp_port>{tcp}</tcp_port><listen_host>127.0.0.1</listen_host>
  <max_server_memory_usage>4294967296</max_server_memory_usage>
  <logger><level>warning</level><console>1</console></logger>
</clickhouse>
"""
# Listens for as long as the second query runs, which is for ever. TabSeparated becomes the default format over HTTP, and
# clickhouse-connect reads the server's version in it.
_LISTEN = (
    "SYSTEM START LISTEN QUERIES DEFAULT; SELECT sleepEachRow(0.5) FROM system.numbers SETTINGS max_block_size=1, "
    "function_sleep_max_microseconds_per_block=0, max_execution_time=0 FORMAT Null"
)


def _engine() -> Any:
    spec = importlib.util.find_spec("chdb")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("the chdb-core wheel is not installed: pip install 'drawdown[local]'")
    folder = Path(spec.submodule_search_locations[0])
    library = next(folder.glob("_chdb*.so"))
    here = Path.cwd()
    os.chdir(folder)
    ctypes.CDLL(str(library), mode=sys.getdlopenflags() | _RTLD_DEEPBIND)
    loader = importlib.machinery.ExtensionFileLoader("_chdb", str(library))
    found = importlib.util.spec_from_loader("_chdb", loader)
    if found is None:
        sys.exit("the chdb-core wheel cannot be loaded")
    module = importlib.util.module_from_spec(found)
    loader.exec_module(module)
    os.chdir(here)
    return module


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--http-port", type=int, required=True)
    parser.add_argument("--tcp-port", type=int, required=True)
    arguments = parser.parse_args()
    work: Path = arguments.dir.resolve()
    (work / "data").mkdir(parents=True, exist_ok=True)
    (work / "config.xml").write_text(_CONFIG.format(http=arguments.http_port, tcp=arguments.tcp_port))
    engine = _engine()
    os.chdir(work)

    def stop(_number: int, _frame: FrameType | None) -> None:
        # What was acknowledged is on disk; the engine recovers its directory as after a kill, which is tested.
        os._exit(0)

    def serve() -> None:
        engine.query(_LISTEN, "TabSeparated", path=str(work / "data"))
        os._exit(1)

    threading.Thread(target=serve, daemon=True).start()
    while True:
        # The engine installs handlers of its own when it starts; ours go back in.
        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        threading.Event().wait(0.2)


if __name__ == "__main__":
    main()
