"""`python -m tests.requirements.page`: write docs/reference/requirements.md from the manifest."""

from __future__ import annotations

import re
from pathlib import Path

from tests.requirements.lines import REQUIREMENTS, read_manifest

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "requirements.md"
HEAD = """\
# Requirements

What turnstream promises, line by line. A test names the lines that it proves by their codes:
`@pytest.mark.requirement("C3", "D7")`. To find the tests of a line, search `tests/` for its code in quotes.
`make requirements` counts them.

| status | meaning |
|---|---|
| done | every part of the line works, and tests show it |
| partial | some of it works |
| planned | do not rely on it yet |

`tests/requirements/manifest.toml` is the source of this page. After a change there, run
`python -m tests.requirements.page`.
"""
_TITLE = re.compile(r"^# --- ([A-Z]): (.+?) -*$", re.MULTILINE)


def page() -> str:
    """Return the page as it follows from the manifest."""
    titles = dict(_TITLE.findall(REQUIREMENTS.file.read_text(encoding="utf-8")))
    parts = [HEAD]
    for line in read_manifest(REQUIREMENTS).values():
        letter = line.id[0]
        if letter in titles:
            parts.append(
                f"\n## {letter}: {titles.pop(letter)}\n\n| code | promise | status |\n|---|---|---|\n"
            )
        text = line.text.replace("|", "\\|")
        parts.append(f"| {line.id} | {text} | {line.status} |\n")
    assert not titles, f"groups without a line: {titles}"
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
