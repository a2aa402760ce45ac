r"""A stand-in for kcat, for machines without it: `python -m bridge.demo.kcat` takes those of its options that we print.

It promises to put a key where Kafka's own clients put it (kcat: `-X partitioner=murmur2_random`), and to pass lines on
as they come. Everything else kcat can do, and talking to anything but an unencrypted broker, is left to kcat.

    -b HOST:PORT -P -t TOPIC -k KEY                           produce each line of standard input
    -b HOST:PORT -C -t TOPIC -o beginning|end [-e] -f FORMAT   consume; -e: stop at the end; %k %s %p %o, \n and \t
                                                              without -q standard error tells when the end is reached
"""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
from collections.abc import Sequence

import anyio
import anyio.to_thread

from bridge.bus.kafka.bus import KafkaBus
from bridge.bus.kafka.settings import KafkaSettings
from bridge.bus.protocol import Bus, Record

_POLL_SECONDS = 0.2
_PLACES = re.compile(rb"%[kspo]|\\n|\\t")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; returns the exit code."""
    options = _parser().parse_args(arguments)
    bus = KafkaBus(KafkaSettings(bootstrap_servers=[options.b], client_id="kcat", fetch_max_wait_seconds=0.02))
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        anyio.run(_consume if options.C else _produce, bus, options)
    return 0


async def _produce(bus: Bus, options: argparse.Namespace) -> None:
    async with bus.producer("kcat") as producer:
        while line := await anyio.to_thread.run_sync(sys.stdin.buffer.readline, abandon_on_cancel=True):
            await producer.publish(options.t, key=options.k.encode(), value=line.rstrip(b"\n"))


async def _consume(bus: Bus, options: argparse.Namespace) -> None:
    async with bus.tail(options.t, from_beginning=options.o == "beginning") as tail:
        is_told = options.q
        while True:
            for record in await tail.poll(max_records=500, timeout_seconds=_POLL_SECONDS):
                sys.stdout.buffer.write(_formatted(options.f, record))
            sys.stdout.buffer.flush()
            if tail.lag():
                continue
            if not is_told:
                is_told = True
                print(f"% Reached end of topic {options.t}", file=sys.stderr, flush=True)
            if options.e:
                return


def _formatted(form: str, record: Record) -> bytes:
    values = {
        b"%k": record.key or b"",
        b"%s": record.value or b"",
        b"%p": b"%d" % record.partition,
        b"%o": b"%d" % record.offset,
        b"\\n": b"\n",
        b"\\t": b"\t",
    }
    return _PLACES.sub(lambda place: values[place.group()], form.encode())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kcat", description="A stand-in for kcat with the options the demo prints.", allow_abbrev=False
    )
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("-P", action="store_true", help="produce")
    mode.add_argument("-C", action="store_true", help="consume")
    parser.add_argument("-b", required=True, metavar="HOST:PORT", help="the broker")
    parser.add_argument("-t", required=True, metavar="TOPIC")
    parser.add_argument("-k", default="", metavar="KEY", help="the key of every record")
    parser.add_argument("-o", default="end", choices=["beginning", "end"], help="where to begin")
    parser.add_argument("-e", action="store_true", help="stop at the end")
    parser.add_argument("-f", default="%s\\n", metavar="FORMAT")
    parser.add_argument("-q", action="store_true", help="do not say when the end was reached")
    parser.add_argument("-u", action="store_true", help="taken and ignored: it is so anyway")
    parser.add_argument("-X", action="append", metavar="NAME=VALUE", help="taken and ignored")
    return parser


if __name__ == "__main__":
    sys.exit(main())
