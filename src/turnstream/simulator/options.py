"""The names of simulated models: `SCRIPT[:OPTION=VALUE,...]`, for example `story:events=300,pace=0.002,seed=7`."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple, TypeAlias, get_args

import msgspec

from turnstream.errors import InvalidModelRequest, ModelNotFound

ScriptName: TypeAlias = Literal["demo", "echo", "thinking", "tools", "agent", "story"]
SCRIPT_NAMES: tuple[str, ...] = get_args(ScriptName)

FaultName: TypeAlias = Literal[
    "error-before", "error", "cut", "reset", "silence", "hang", "slow-first", "malformed", "no-end"
]

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=10_000_000)]
Seconds: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=3600)]


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """What may follow a script's name.

    Pace: `first` seconds before the first event, `pace` seconds per event (None: the script's own), `batch` events per
    write (0: as many as fit 64 KiB), `chunk` bytes per write, wherever that cuts.
    Content: `events` deltas of a story, `seed` for what is drawn by lot.
    Faults: `fault`, `after` so many events, `status`, `code` and `retry-after` of a reported error, `seconds` of
    `slow-first`, `ping` seconds between the pings of a `silence` (0: none).
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
    code: str = "overloaded_error"
    retry_after: Seconds | None = None
    seconds: Seconds = 5.0
    ping: Seconds = 0.0


class SimulatedModel(NamedTuple):
    script: str
    options: Options


def parse_model_name(name: str) -> SimulatedModel:
    """Raises ModelNotFound for a script that is not there, InvalidModelRequest for options that do not fit."""
    script, _, text = name.partition(":")
    if script not in SCRIPT_NAMES:
        raise ModelNotFound(f"no simulated model {script[:80]!r}; there are {', '.join(SCRIPT_NAMES)}")
    given: dict[str, str] = {}
    for option in filter(None, text.split(",")):
        key, separator, value = option.partition("=")
        if not separator:
            raise InvalidModelRequest(f"{option[:80]!r} is not like option=value")
        given[key.strip()] = value.strip()
    try:
        return SimulatedModel(script, msgspec.convert(given, Options, strict=False))
    except msgspec.ValidationError as error:
        raise InvalidModelRequest(f"simulated model {name[:200]!r}: {error}") from None
