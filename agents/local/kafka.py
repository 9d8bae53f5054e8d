"""Apache Kafka's own jars, one node in KRaft mode on loopback."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from agents.errors import CommandError, WrongUse
from agents.local.processes import Child

_POM = Path(__file__).parents[2] / "deploy" / "kafka" / "pom.xml"
_JAVA_MIN = 17
_START_SECONDS = 60.0
_AROUND = "or use a Kafka of your own with DRAWDOWN_KAFKA=host:port"
_CLUSTER_ID = "ZHJhd2Rvd24tbG9jYWwtMQ"

#: `controlled.shutdown.enable`: one that shuts down so is fenced by its controller before it has ended its transactions, and calls them
#: complete without a mark in any log (ARCHITECTURE.md, decision 3). A node that is alone has nobody to hand anything over to.
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
controlled.shutdown.enable=false
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=8
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
message.max.bytes=17825792
replica.fetch.max.bytes=17825792
socket.request.max.bytes=104857600
"""

#: Made for a machine that Kafka shares with everything else: it took three times the processor with the JVM's defaults, more than half
#: of it for compiling and for a collector that cleans up concurrently.
_JVM = ("-Xms128m", "-Xmx768m", "-XX:TieredStopAtLevel=1", "-XX:+UseParallelGC")

_LOG4J = """\
<Configuration status="error">
  <Appenders><Console name="out"><PatternLayout pattern="%d %p %c %m%n"/></Console></Appenders>
  <Loggers><Root level="warn"><AppenderRef ref="out"/></Root></Loggers>
</Configuration>
"""


def jars() -> Path:
    """The folder of Kafka's jars, downloaded once with Maven; raises `WrongUse` if Maven is missing or fails."""
    version = re.search(r"<kafka.version>([^<]+)<", _POM.read_text())
    if version is None:
        raise CommandError(f"{_POM} names no Kafka version")
    cache = Path(os.environ.get("DRAWDOWN_CACHE", "~/.cache/drawdown")).expanduser()
    folder = cache / f"kafka-{version[1]}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _download(folder)
    return folder


def _download(folder: Path) -> None:
    """Into a folder beside it, renamed at the end: an interrupted download never counts."""
    maven = shutil.which("mvn")
    if maven is None:
        raise WrongUse(f"Maven (mvn) is needed once, to fetch Kafka: install it, {_AROUND}")
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        target = Path(temporary) / "libs"
        command = [maven, "-q", "-B", "-f", str(_POM), "dependency:copy-dependencies", f"-DoutputDirectory={target}"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            raise WrongUse(f"Maven could not fetch Kafka: {result.stdout.strip()[-300:]}; try again, {_AROUND}")
        target.rename(folder)


def java() -> str:
    """The Java program; raises `WrongUse` if it is missing or too old."""
    program = shutil.which("java")
    if program is None:
        raise WrongUse(f"Java {_JAVA_MIN} or newer is needed for Kafka: install it, {_AROUND}")
    text = subprocess.run([program, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', text)
    if found is None or int(found[1]) < _JAVA_MIN:
        raise WrongUse(f"Java {_JAVA_MIN} or newer is needed for Kafka, this is: {text.splitlines()[0]}; {_AROUND}")
    return program


def start(directory: Path, port: int, controller: int, log: Path) -> Child:
    """A running broker on 127.0.0.1:`port` with its data in `directory`, which survives restarts and kill -9."""
    program, libs = java(), jars()
    directory.mkdir(parents=True, exist_ok=True)
    properties, log4j = directory / "server.properties", directory / "log4j2.xml"
    properties.write_text(_PROPERTIES.format(port=port, controller=controller, data=directory / "data"))
    log4j.write_text(_LOG4J)
    base = [program, *_JVM, f"-Dlog4j2.configurationFile={log4j}", "-cp", f"{libs}/*"]
    if not (directory / "data" / "meta.properties").exists():
        command = [*base, "kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c", str(properties)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            raise CommandError(f"Kafka's storage could not be formatted: {(result.stdout + result.stderr)[-300:]}")
    child = Child("Kafka", [*base, "kafka.Kafka", str(properties)], log)
    child.wait_until(lambda: _listens(port), _START_SECONDS)
    return child


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False
