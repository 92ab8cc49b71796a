"""Measure the goals, and print them as a table.

python -m benchmarks [NAME …] [--quick]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

from benchmarks import (
    catch_up,
    decode_fold,
    dialects,
    durable_blocks,
    end_to_end,
    ended_turns,
    gateway,
    library,
    long_chat,
    machine,
    memory,
)
from benchmarks.report import Line, print_lines, print_summary

BENCHMARKS: dict[str, Callable[..., Iterator[Line]]] = {
    "decode_fold": decode_fold.run,
    "library": library.run,
    "end_to_end": end_to_end.run,
    "dialects": dialects.run,
    "gateway": gateway.run,
    "memory": memory.run,
    "catch_up": catch_up.run,
    "durable_blocks": durable_blocks.run,
    "ended_turns": ended_turns.run,
    "long_chat": long_chat.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"which: {', '.join(BENCHMARKS)}; all without one"
    )
    parser.add_argument("--quick", action="store_true", help="short passes, for a first look")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    print(machine.describe(), flush=True)
    lines: list[Line] = []

    def kept(some: Iterator[Line]) -> Iterator[Line]:
        for line in some:
            lines.append(line)
            yield line

    for name in arguments.names or BENCHMARKS:
        print_lines(name, kept(BENCHMARKS[name](quick=arguments.quick)))
    print_summary(lines)


if __name__ == "__main__":
    main()
