"""Apache Kafka itself, one KRaft node on loopback, started from the Maven artefacts that tests/kafka/pom.xml names.

It promises that `bootstrap` answers after `start`, that ports and data outlive `kill` and `restart`, and that no Java
process outlives this one. Whether tests share a node, skip or fail without one is left to tests/support/brokers.py.
"""

import os
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from signal import SIGCONT, SIGINT, SIGSTOP, SIGTERM
from types import TracebackType
from typing import Self

from bridge.demo.broker import LOOPBACK, LeashedProcess, answers_in_time, free_ports, tail

ROOT = Path(__file__).parents[2]
POM = ROOT / "tests" / "kafka" / "pom.xml"
CACHE = ROOT / ".cache"

MAVEN_SECONDS = 600.0
FORMAT_SECONDS = 60.0
START_SECONDS = 60.0
STOP_SECONDS = 20.0

# A node lives for seconds to minutes: compile fast instead of well, and collect with one thread.
JVM = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dlog4j2.configurationFile=log4j2.properties")

LOG4J2 = """\
status=error
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{HH:mm:ss.SSS} %p %c{1}: %m%n
rootLogger.level=warn
rootLogger.appenderRef.out.ref=out
"""

# CLIENT is for everybody; PROXIED is the same broker under an advertised port of somebody else's, so that a client
# that comes in through a proxy stays on it. The broker's session (default 9 s) is what a start after `kill` waits for:
# until it has run out the controller takes the new process for a second broker with the same id. The groups' shortest
# session (default 6 s) is for tests in which members die. Everything not named here is Kafka's default.
PROPERTIES = """\
process.roles=broker,controller
node.id=1
listeners=CLIENT://{host}:{client},PROXIED://{host}:{proxied},CONTROLLER://{host}:{controller}
advertised.listeners=CLIENT://{host}:{client},PROXIED://{host}:{advertised}
listener.security.protocol.map=CLIENT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=CLIENT
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers={host}:{controller}
log.dirs=data
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
"""


class KafkaUnavailableError(RuntimeError):
    """Apache Kafka can't be had or doesn't start here; the message says what is needed."""


class ApacheKafka:
    """One node, its ports chosen at construction; `start` it, or enter it as a context.

    `kill` and `restart` keep ports and data, `stop` ends the node and removes the data. With `advertised_port` the
    listener at `proxied_port` tells its clients to come to `advertised_port`, where a proxy is to stand.
    """

    def __init__(self, *, advertised_port: int | None = None) -> None:
        self._client_port, self.proxied_port, self._controller_port = free_ports(3)
        self._advertised_port = advertised_port or self.proxied_port
        self._process: LeashedProcess | None = None
        self._directory: tempfile.TemporaryDirectory[str] | None = None

    @property
    def bootstrap(self) -> str:
        """The address for clients that need no proxy."""
        return f"{LOOPBACK}:{self._client_port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start and wait until clients are answered; the first time, and after `stop`, on an empty log."""
        if self._process:
            raise RuntimeError("this node was started already")
        try:
            self._launch()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the node in order, SIGKILL when it takes too long, and remove its data; again is harmless."""
        self._end(STOP_SECONDS)
        if self._directory:
            self._directory.cleanup()
            self._directory = None

    def kill(self) -> None:
        """SIGKILL: the node is gone at once, the data stays for `start`."""
        self._end(0)

    def restart(self) -> None:
        """End the node in order and start it on the same ports with the same data."""
        self._end(STOP_SECONDS)
        self.start()

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing answers."""
        self._running().send(SIGSTOP)

    def resume(self) -> None:
        """Undo `pause`."""
        self._running().send(SIGCONT)

    def log_tail(self) -> str:
        """The end of the node's log (warnings and worse)."""
        return tail(Path(self._directory.name) / "kafka.log") if self._directory else ""

    def _launch(self) -> None:
        directory = self._prepared()
        command = _java("-Xmx512m", "kafka.Kafka", "server.properties")
        with (directory / "kafka.log").open("ab") as log:
            self._process = LeashedProcess(command, log=log, directory=directory)
        if not answers_in_time(self._process, (LOOPBACK, self._client_port), seconds=START_SECONDS):
            raise KafkaUnavailableError(f"Apache Kafka didn't come up at {self.bootstrap}:\n{self.log_tail()}")

    def _running(self) -> LeashedProcess:
        if self._process is None:
            raise RuntimeError("this node doesn't run")
        return self._process

    def _end(self, grace: float) -> None:
        if self._process:
            self._process.end(grace)
            self._process = None

    def _properties(self) -> str:
        """What the node's configuration says; a later line of the same name wins."""
        return PROPERTIES.format(
            host=LOOPBACK,
            client=self._client_port,
            proxied=self.proxied_port,
            controller=self._controller_port,
            advertised=self._advertised_port,
        )

    def _format_arguments(self) -> tuple[str, ...]:
        """Further arguments of the storage tool."""
        return ()

    def _prepared(self) -> Path:
        """The directory the node runs in, made and formatted unless `kill` or `restart` left one."""
        if self._directory:
            return Path(self._directory.name)
        self._directory = tempfile.TemporaryDirectory(prefix="callbridge-kafka-", ignore_cleanup_errors=True)
        directory = Path(self._directory.name)
        (directory / "server.properties").write_text(self._properties())
        (directory / "log4j2.properties").write_text(LOG4J2)
        arguments = (
            "format",
            "--standalone",
            "--cluster-id",
            "callbridge-tests-00000",
            "--config",
            "server.properties",
            *self._format_arguments(),
        )
        command = _java("-Xmx256m", "kafka.tools.StorageTool", *arguments)
        _run(command, directory, seconds=FORMAT_SECONDS, needed="to format its storage it needs Java 17 or newer")
        return directory


def _java(heap: str, *main: str) -> list[str | Path]:
    """The command line of one of Kafka's programs."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=str(Path(home) / "bin") if home else None)
    if java is None:
        raise KafkaUnavailableError("Apache Kafka needs Java 17 or newer: no `java` in $JAVA_HOME or on the path")
    return [java, heap, *JVM, "-cp", f"{_artefacts()}/*", *main]


def _artefacts() -> Path:
    """The folder with Kafka's archives, filled by Maven the first time."""
    version = re.search(r"<kafka\.version>(.+?)</kafka\.version>", POM.read_text())
    if version is None:
        raise KafkaUnavailableError(f"{POM} names no kafka.version")
    libs = CACHE / f"kafka-{version[1]}" / "libs"
    if libs.is_dir():
        return libs
    maven = shutil.which("mvn")
    if maven is None:
        raise KafkaUnavailableError(
            f"Apache Kafka {version[1]} is not in .cache and there is no `mvn` to fetch it with"
        )
    CACHE.mkdir(exist_ok=True)
    # Filled elsewhere and renamed: the folder is whole or absent, whoever interrupts or does the same beside us.
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="filling-") as filling:
        target = Path(filling) / "kafka"
        command: list[str | Path] = [
            maven,
            "-q",
            "-B",
            "-f",
            POM,
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
        ]
        needed = f"Maven has to fetch org.apache.kafka:kafka_2.13:{version[1]} once"
        command += [f"-DoutputDirectory={target / 'libs'}"]
        _run(command, ROOT, seconds=MAVEN_SECONDS, needed=needed)
        try:
            target.rename(libs.parent)
        except OSError:
            if not libs.is_dir():
                raise
    return libs


def _run(command: list[str | Path], directory: Path, *, seconds: float, needed: str) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise KafkaUnavailableError(f"Apache Kafka: {needed}; that took longer than {seconds:.0f} s") from error
    if done.returncode:
        raise KafkaUnavailableError(f"Apache Kafka: {needed}; it failed:\n{(done.stdout + done.stderr)[-4000:]}")


def main() -> None:
    """Run a node in the foreground until SIGINT or SIGTERM."""
    with ApacheKafka() as kafka:
        # Blocked only now: a child inherits the mask, and a node that can't be told to end is no use.
        signal.pthread_sigmask(signal.SIG_BLOCK, {SIGINT, SIGTERM})
        print(f"KAFKA_BOOTSTRAP={kafka.bootstrap}", flush=True)
        signal.sigwait({SIGINT, SIGTERM})


if __name__ == "__main__":
    main()
