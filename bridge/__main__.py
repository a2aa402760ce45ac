"""`callbridge`: arguments and exit codes.

Every command reads one configuration file and says on stderr, in one line, what a person must do when it cannot go on.
Exit codes: 0 done, 1 failed, 2 misconfigured or misused, 3 cut off at the deadline, 128 and more ended by a signal.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio
import msgspec

from bridge import __version__, app, configured
from bridge.bus import topics
from bridge.demo.plays import PLAYS
from bridge.model import asyncapi
from bridge.model.errors import CallbridgeError, Misconfigured
from bridge.model.schema import Schema, schemas
from bridge.providers import matrix
from bridge.providers.catalogue import KINDS
from bridge.runtime.config import effective, load
from bridge.runtime.logging import configure, get_logger
from bridge.runtime.supervisor import ExitCode

log = get_logger()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except Misconfigured as error:
        print(f"callbridge: {error}", file=sys.stderr)
        return ExitCode.MISCONFIGURED
    except CallbridgeError as error:
        print(f"callbridge: {error}", file=sys.stderr)
        return ExitCode.FAILED


def _run(options: argparse.Namespace) -> int:
    """The daemon."""
    checked = configured.check(load(options.config), file=str(options.config))
    with configure(checked.config.logging) as sink:
        log.info("process.configured", version=__version__, file=str(options.config))
        return anyio.run(app.serve, checked, sink, backend_options={"use_uvloop": True})


def _check(options: argparse.Namespace) -> int:
    """Read and check a configuration, offline; with --kafka the cluster's topics as well."""
    config = load(options.config)
    checked = configured.check(config, file=str(options.config))
    if options.secrets:
        anyio.run(configured.try_connections, checked)
    if options.show:
        print(effective(config))
    of_kafka = anyio.run(configured.examine, checked).risks if options.kafka else []
    for risk in [*configured.risks(checked), *of_kafka]:
        print(f"risky: {risk}", file=sys.stderr)
    print(f"{options.config}: ok, {len(checked.connections)} connections")
    return ExitCode.STOPPED


def _topics(options: argparse.Namespace) -> int:
    """Print what creates the topics, or create those that are missing."""
    config = load(options.config)
    if options.create:
        checked = configured.check(
            msgspec.structs.replace(config, topics=msgspec.structs.replace(config.topics, create_missing=True)),
            file=str(options.config),
        )
        for risk in anyio.run(configured.examine, checked).risks:
            print(f"risky: {risk}", file=sys.stderr)
        return ExitCode.STOPPED
    print("\n".join(topics.commands_to_create(config.topics)))
    return ExitCode.STOPPED


def _ledger(options: argparse.Namespace) -> int:
    """Show what the ledger holds, or find one command in it."""
    if (options.action == "find") != (options.command_id is not None):
        print("callbridge: ledger show, or ledger find COMMAND_ID", file=sys.stderr)
        return ExitCode.MISCONFIGURED
    checked = configured.check(load(options.config), file=str(options.config))
    print("\n".join(anyio.run(configured.inspect_ledger, checked, options.command_id)))
    return ExitCode.STOPPED


def _every_schema() -> dict[str, Schema]:
    return schemas(
        {kind.name: kind.options for kind in KINDS.values()},
        {kind.name: kind.action_options for kind in KINDS.values()},
    )


def _schema(options: argparse.Namespace) -> int:
    """Print the JSON Schemas of all messages, or of one."""
    every = _every_schema()
    if options.message is not None and options.message not in every:
        print(f"callbridge: no message '{options.message}'; there are: {', '.join(sorted(every))}", file=sys.stderr)
        return ExitCode.MISCONFIGURED
    chosen = every if options.message is None else every[options.message]
    print(msgspec.json.format(msgspec.json.encode(chosen), indent=2).decode())
    return ExitCode.STOPPED


def _asyncapi(options: argparse.Namespace) -> int:
    """Print an AsyncAPI 3.1 document of all topics and messages."""
    cluster = asyncapi.Cluster()
    if options.config is not None:
        checked = configured.check(load(options.config), file=str(options.config))
        cluster = asyncapi.Cluster(
            topics={use: topic.name for use, topic in checked.config.topics.by_use().items()},
            servers=tuple(checked.kafka.bootstrap_servers),
            security_protocol=checked.kafka.security_protocol,
            sasl_mechanism=checked.kafka.sasl_mechanism,
        )
    made = asyncapi.document(_every_schema(), version=__version__, cluster=cluster)
    print(msgspec.json.format(msgspec.json.encode(made), indent=2).decode())
    return ExitCode.STOPPED


def _providers(options: argparse.Namespace) -> int:
    """Print what each provider can do, or one with its options."""
    if options.provider is not None and options.provider not in KINDS:
        known = ", ".join(sorted(KINDS))
        print(f"callbridge: no provider '{options.provider}'; there are: {known}", file=sys.stderr)
        return ExitCode.MISCONFIGURED
    kinds = KINDS if options.provider is None else {options.provider: KINDS[options.provider]}
    if options.markdown:
        print(matrix.as_markdown(kinds), end="")
    elif options.provider is None:
        print(matrix.as_text(kinds))
    else:
        print(matrix.one_as_text(kinds[options.provider]))
    return ExitCode.STOPPED


def _demo(options: argparse.Namespace) -> int:
    """One call, end to end, live."""
    from bridge.demo.main import demo  # noqa: PLC0415 -- needs the extra `demo`, which a server does not have

    return demo(keep=options.keep, provider=options.provider)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="callbridge", description="Kafka commands become calls, webhooks events.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"callbridge {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], int], *, config: bool = True) -> argparse.ArgumentParser:
        about = (command.__doc__ or "").strip().splitlines()[0]
        sub = commands.add_parser(name, help=about, description=about, allow_abbrev=False)
        sub.set_defaults(command=command)
        if config:
            sub.add_argument("config", type=Path, help="the TOML file; examples are in config/")
        return sub

    add("run", _run)
    check = add("check", _check)
    check.add_argument("--show", action="store_true", help="print the effective configuration, secrets masked")
    check.add_argument("--secrets", action="store_true", help="read the secrets and build the connections too")
    check.add_argument("--kafka", action="store_true", help="ask the cluster about its topics too")
    create = add("topics", _topics)
    create.add_argument("--create", action="store_true", help="create what is missing")
    ledger = add("ledger", _ledger)
    ledger.add_argument("action", choices=("show", "find"), help="show: count by state; find: one command's records")
    ledger.add_argument("command_id", nargs="?", help="for find")
    schema = add("schema", _schema, config=False)
    schema.add_argument("message", nargs="?", help="one message instead of all")
    described = add("asyncapi", _asyncapi, config=False)
    described.add_argument("config", type=Path, nargs="?", help="a TOML file, for your topics' names and servers")
    providers = add("providers", _providers, config=False)
    providers.add_argument("provider", nargs="?", help="one provider with its options instead of all")
    providers.add_argument("--markdown", action="store_true", help="as a page: docs/providers.md")
    demo = add("demo", _demo, config=False)
    demo.add_argument("--provider", choices=tuple(PLAYS), default="sipgate", help="whom to simulate (sipgate)")
    demo.add_argument("--keep", action="store_true", help="leave everything running and print what to type next")
    return parser


if __name__ == "__main__":
    sys.exit(main())
