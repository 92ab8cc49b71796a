"""Names of simulated models: `SCRIPT[:OPTION=VALUE,...]`, for example `story:events=300,pace=0.002,seed=7`.

The header `X-Simulate` takes the same options, and overrides those of the name. Its `script=NAME` chooses the
script, so an application under test can keep its own model names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple, TypeAlias, get_args

import msgspec

from turnstream.errors import InvalidModelRequest, ModelNotFound
from turnstream.simulator.fault_names import MODEL_ENDINGS, FaultName

ScriptName: TypeAlias = Literal["demo", "echo", "thinking", "tools", "agent", "story"]
SCRIPT_NAMES: tuple[str, ...] = get_args(ScriptName)

HEADER = "X-Simulate"
REPLAY = "replay"
"""Name of the model that a replay lists, and prefix of its options."""
_LONGEST_NAME = 2000

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=10_000_000)]
Seconds: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=3600)]


class SimulatorOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """Options after a script's name.

    Args:
        first: Seconds before the first event.
        pace: Seconds per event. None: the script's own.
        batch: Events per write. 0: up to 64 KiB.
        chunk: Bytes per write, which may end inside an event. 0: no cuts.
        events: Deltas of a story.
        seed: Seed of random choices.
        fault: Name of a fault.
        after: Events before the fault.
        status: Status of a reported error.
        code: Code of a reported error.
        retry_after: Seconds in the header `Retry-After` of a reported error.
        seconds: Seconds of `slow-first`.
        ping: Seconds between the pings of a `silence`. 0: no pings.
        times: Requests of a model that get the fault. 0: all.
        lasting: Seconds in which requests of a model get the fault. 0: always.
        label: A mark without effect, to find the requests of a test in the log.
        prefill: Reaction to a request that ends with the model's own text: continue it, refuse it, or repeat
            it first.
        size: Bytes of a `huge-event`.
    """

    first: Seconds = 0.0
    pace: Seconds | None = None
    batch: Count = 1
    chunk: Count = 0
    events: Count = 300
    seed: int = 0
    fault: FaultName | None = None
    after: Count | None = None
    status: Annotated[int, msgspec.Meta(ge=400, le=599)] = 500
    code: str | None = None
    retry_after: Seconds | None = None
    seconds: Seconds = 5.0
    ping: Seconds = 0.0
    times: Count = 0
    lasting: Seconds = 0.0
    label: str = ""
    prefill: Literal["continue", "refuse", "repeat"] = "continue"
    size: Annotated[int, msgspec.Meta(ge=100, le=128 * 1024 * 1024)] = 17 * 1024 * 1024


class SimulatedModel(NamedTuple):
    script: str
    options: SimulatorOptions


def parse_model_name(name: str, header: str = "") -> SimulatedModel:
    """Return the script and the options that a model's name and the header `X-Simulate` choose.

    Raises ModelNotFound if the script does not exist, InvalidModelRequest if the options are not valid.
    """
    script, _, text = name.partition(":")
    told = _parse_pairs(header)
    if "script" in told:
        chosen = told.pop("script")
        text = text if script in SCRIPT_NAMES else ""
        script = chosen
    if script not in SCRIPT_NAMES:
        raise ModelNotFound(f"no simulated model {script[:80]!r}; choose one of {', '.join(SCRIPT_NAMES)}")
    return SimulatedModel(script, _options({**_parse_pairs(text), **told}, f"simulated model {name[:200]!r}"))


def parse_replay_options(name: str, header: str, defaults: SimulatorOptions) -> SimulatorOptions:
    """Return the options of a replay: `defaults`, then those of a model named `replay:…`, then the header's.

    Any other model name belongs to the application, and has no options. Raises InvalidModelRequest.
    """
    model, _, text = name.partition(":")
    given = {**_parse_pairs(text if model == REPLAY else ""), **_parse_pairs(header)}
    given.pop("script", None)
    base = {key: value for key, value in msgspec.to_builtins(defaults).items() if value is not None}
    options = _options({**base, **given}, "the replay")
    if options.fault in MODEL_ENDINGS:
        raise InvalidModelRequest(
            f"fault={options.fault} cuts a script short; a recorded answer ends as it was recorded"
        )
    return options


def _parse_pairs(text: str) -> dict[str, str]:
    if len(text) > _LONGEST_NAME:
        raise InvalidModelRequest(f"more than {_LONGEST_NAME} characters of options")
    given: dict[str, str] = {}
    for option in filter(None, (part.strip() for part in text.split(","))):
        key, separator, value = option.partition("=")
        if not separator:
            raise InvalidModelRequest(f"{option[:80]!r} is not like option=value")
        given[key.strip()] = value.strip()
    return given


def _options(given: Mapping[str, object], what: str) -> SimulatorOptions:
    try:
        return msgspec.convert(given, SimulatorOptions, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidModelRequest(f"{what}: {error}") from None
