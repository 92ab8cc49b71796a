"""`python -m tests.requirements`: the state of each requirement and fault, and the number of its tests."""

from __future__ import annotations

from collections import Counter

from tests.requirements.lines import MANIFESTS, STATUSES, Line, lines_with_tests


def report(lines: list[Line]) -> str:
    rows = [f"{line.id:<4} {line.status:<8} {len(line.tests):>5}  {line.text}" for line in lines]
    counts = Counter(line.status for line in lines)
    totals = ", ".join(f"{counts[status]} {status}" for status in STATUSES)
    return "\n".join(
        [f"{'line':<4} {'status':<8} {'tests':>5}  text", *rows, "", f"{len(lines)} lines: {totals}"]
    )


if __name__ == "__main__":
    print("\n\n".join(report(lines_with_tests(manifest)) for manifest in MANIFESTS))
