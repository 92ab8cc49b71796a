"""`turnstream simulate`: a provider look-alike on a port."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from turnstream.cli.command import Command
from turnstream.cli.terminal import bold, dim

_TOLD = """\
{title}

  It answers on the wires anthropic (POST /v1/messages) and openai-chat (POST /v1/chat/completions), and asks for no key.

  models    {models}
            with a pace and faults by name: story:events=500,pace=0.005  demo:fault=cut,after=20

  in turnstream.toml
            [providers.lookalike]
            wire = "anthropic"
            base_url = "{url}"
            models = ["demo", "thinking"]

  with the official SDKs
            export ANTHROPIC_BASE_URL={url} ANTHROPIC_API_KEY=any
            export OPENAI_BASE_URL={url}/v1 OPENAI_API_KEY=any

{end}
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--port", type=int, default=9090, help="0 takes a free one (default: %(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    parser.add_argument("--verbose", action="store_true", help="a line for each request")


def run(arguments: Namespace) -> int:
    import asyncio

    asyncio.run(_simulate(arguments.host, arguments.port, verbose=arguments.verbose))
    return 0


async def _simulate(host: str, port: int, *, verbose: bool) -> None:
    from turnstream.cli.signals import ended_by_signal
    from turnstream.simulator.options import SCRIPT_NAMES
    from turnstream.simulator.server import SimulatorServer

    async with SimulatorServer(host, port, _report if verbose else None) as simulator:
        title = f"{bold('turnstream simulate')} listens on {bold(simulator.url)}"
        text = _TOLD.format(
            title=title, models=", ".join(SCRIPT_NAMES), url=simulator.url, end=dim("Ctrl-C ends it.")
        )
        print(text, flush=True)
        await ended_by_signal()


def _report(line: str) -> None:
    print(line, flush=True)


COMMAND = Command(
    "simulate",
    "run a provider look-alike with scripted answers",
    "turnstream simulate --port 9090\nturnstream simulate --port 0 --verbose",
    add_arguments,
    run,
)
