"""`turnstream simulate`: runs a simulated provider on a port."""

from __future__ import annotations

import math
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from turnstream.cli.command import Command
from turnstream.cli.terminal import bold, dim
from turnstream.errors import ConfigurationError

if TYPE_CHECKING:
    from turnstream.simulator.replay import Replay

_BANNER = """\
{title}

{answers}

  in turnstream.toml
            [providers.lookalike]
            wire = "{wire}"
            base_url = "{url}"
            models = [{listed}]

  with the official SDKs
            export ANTHROPIC_BASE_URL={url} ANTHROPIC_API_KEY=any
            export OPENAI_BASE_URL={url}/v1 OPENAI_API_KEY=any
            export OLLAMA_HOST={url}
            export AWS_ENDPOINT_URL_BEDROCK_RUNTIME={url}

  what it was asked
            curl {url}/_simulator/requests

{end}
"""

_SCRIPT_ANSWERS = """\
  It answers on the wires anthropic (POST /v1/messages), openai-chat (POST /v1/chat/completions), \
openai-responses
  (POST /v1/responses), gemini (POST /v1beta/models/MODEL:streamGenerateContent), bedrock (POST
  /model/MODEL/converse-stream) and ollama (POST /api/chat), and asks for no key.

  models    {models}
            with a pace and faults by name: story:events=500,pace=0.005  demo:fault=cut,after=20
            or by header, which wins: X-Simulate: script=demo,fault=cut,after=20\
"""

_REPLAY_ANSWERS = """\
  It answers any request on the wire {wire} with the recording {file} ({events} events), whatever the model,
  and asks for no key. Faults come by header: X-Simulate: fault=cut,after=20\
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog = f"{parser.epilog or ''}\n\n{_options_help()}"
    parser.add_argument(
        "--port",
        type=int,
        default=9090,
        help="the port to listen on, 0 for a free one (default: %(default)s)",
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    parser.add_argument("--verbose", action="store_true", help="print a line for each request")
    parser.add_argument(
        "--log",
        type=Path,
        metavar="FILE",
        help="append each request to FILE, as a line of JSON; keys are masked",
    )
    replay = parser.add_argument_group("a recording in place of the scripts")
    replay.add_argument(
        "--replay",
        type=Path,
        metavar="FILE",
        help="a recorded body, or a .jsonl file with the JSON of one event per line; either may end in .gz",
    )
    replay.add_argument("--wire", help="the protocol of FILE (default: found from its content)")
    replay.add_argument(
        "--rate", type=_rate, metavar="EVENTS_PER_S", help="events per second (default: all at once)"
    )
    replay.add_argument(
        "--chunk", type=_chunk, default=0, metavar="BYTES", help="send the body in pieces of BYTES"
    )


def _options_help() -> str:
    """Return the help on the options that may follow a model's name or be in the header."""
    from turnstream.simulator.fault_names import FAULTS

    faults = "\n".join(f"  fault={name:<14}{text}" for name, text in FAULTS.items())
    return f"""\
options follow the model's name ("story:events=500,pace=0.005"), or are in the header
("X-Simulate: fault=cut,after=9,pace=0.01"). The header wins. Its script=NAME chooses the script in place of
the model's name:
  first=SECONDS       pause before the first event
  pace=SECONDS        pause before each further event
  batch=EVENTS        events per write (0: 64 KiB)
  chunk=BYTES         bytes per write
  events=COUNT        deltas of a story
  seed=NUMBER         seed of random choices
  times=REQUESTS      only so many requests get the fault
  lasting=SECONDS     only requests of the first SECONDS get the fault
  prefill=HOW         if the request ends with an answer that the model began: continue, refuse or repeat it
  label=ANYTHING      a mark to find requests in the log

faults:
{faults}"""


def _rate(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise ArgumentTypeError(f"{text} is not a rate: give events per second, more than 0")
    return value


def _chunk(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ArgumentTypeError(f"{text} is not a size: give 1 byte or more")
    return value


def run(arguments: Namespace) -> int:
    import asyncio

    asyncio.run(_simulate(arguments, _replay(arguments)))
    return 0


def _replay(arguments: Namespace) -> Replay | None:
    """Return the recording to answer with, or None.

    Raises ConfigurationError if the arguments are not valid.
    """
    from turnstream.simulator.options import SimulatorOptions
    from turnstream.simulator.replay import load_replay
    from turnstream.wires import WIRES

    file: Path | None = arguments.replay
    if file is None:
        if arguments.wire or arguments.rate or arguments.chunk:
            raise ConfigurationError("--wire, --rate and --chunk are for a recording: name it with --replay")
        return None
    wire: str = arguments.wire or ""
    if wire and wire not in WIRES:
        raise ConfigurationError(f"no wire {wire!r}; choose one of {', '.join(WIRES)}")
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"{file} cannot be read ({error.strerror}): give a file that exists and is readable"
        ) from error
    options = SimulatorOptions(pace=1 / arguments.rate if arguments.rate else 0.0, chunk=arguments.chunk)
    return load_replay(str(file), data, WIRES.get(wire), options)


async def _simulate(arguments: Namespace, replay: Replay | None) -> None:
    import asyncio

    from turnstream.cli.signals import ended_by_signal
    from turnstream.simulator.request_log import RequestLog
    from turnstream.simulator.server import Answers, SimulatorServer

    report = _report if arguments.verbose else None
    with RequestLog(arguments.log) as log:
        async with SimulatorServer(arguments.host, arguments.port, report, Answers(replay, log)) as simulator:
            # A supervisor may send a signal as soon as it reads the text, so install the handlers first.
            ending = asyncio.create_task(ended_by_signal())
            await asyncio.sleep(0)
            print(_banner(simulator.url, replay, arguments.replay), flush=True)
            await ending


def _banner(url: str, replay: Replay | None, file: Path | None) -> str:
    from turnstream.simulator.options import REPLAY, SCRIPT_NAMES

    if replay is None:
        answers = _SCRIPT_ANSWERS.format(models=", ".join(SCRIPT_NAMES))
        wire, listed = "anthropic", '"demo", "thinking"'
    else:
        wire, listed = replay.wire.name, f'"{REPLAY}"'
        answers = _REPLAY_ANSWERS.format(wire=wire, file=file, events=len(replay))
    title = f"{bold('turnstream simulate')} listens on {bold(url)}"
    return _BANNER.format(
        title=title, answers=answers, wire=wire, listed=listed, url=url, end=dim("Ctrl-C ends it.")
    )


def _report(line: str) -> None:
    print(line, flush=True)


COMMAND = Command(
    "simulate",
    "run a provider look-alike with scripted answers",
    """\
turnstream simulate --port 9090
turnstream simulate --port 0 --verbose --log requests.jsonl
turnstream simulate --replay answer.sse --rate 50 --chunk 7""",
    add_arguments,
    run,
)
