"""Makes the reference of the library from its docstrings: `python scripts/reference.py FOLDER`."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import pdoc

import turnstream

PUBLIC = (
    "turnstream",
    "turnstream.adapters",
    "turnstream.client",
    "turnstream.config",
    "turnstream.core.blocks",
    "turnstream.core.stream_events",
    "turnstream.core.turn_events",
    "turnstream.core.usage",
    "turnstream.errors",
    "turnstream.llm.prompts",
    "turnstream.llm.readers",
    "turnstream.model_loop.sources",
    "turnstream.server.auth",
    "turnstream.simulator.server",
    "turnstream.tools",
)
"""The modules whose names are promises."""


def main(folder: str) -> None:
    for name in turnstream.__all__:  # loaded when first used; here each is used
        setattr(turnstream, name, getattr(turnstream, name))
    # The __init__ that a NamedTuple gets has no module in which names could be looked up; its fields tell
    # their types.
    warnings.filterwarnings("ignore", "Error parsing type annotation", UserWarning)
    # What a TypedDict has from another one has no place of its own.
    warnings.filterwarnings("ignore", "Cannot determine where", UserWarning)
    pdoc.render.configure(docformat="markdown", footer_text="turnstream", search=True, show_source=False)
    pdoc.pdoc(*PUBLIC, output_directory=Path(folder))
    print(f"the reference is in {folder}/index.html")


if __name__ == "__main__":
    main(sys.argv[1])
