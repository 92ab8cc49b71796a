"""Changes the journal to pages, each with segments of any number of turns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_JOURNAL = "turnstream_journal"
_SEGMENTS_OF_A_PAGE = 256
_SEGMENTS = sa.text(
    "SELECT turn_id, sequence, number, block_type, first_seq, seq, text, content "  # noqa: S608 - a constant
    f"FROM {_JOURNAL} ORDER BY turn_id, sequence, number"
)
_NEW = sa.table(_JOURNAL, sa.column("segments"))


def upgrade() -> None:
    """Rewrite the journal as pages.

    Keep the stored segments: recovery may need those of a process that died.
    """
    connection = op.get_bind()
    rows = connection.execute(_SEGMENTS).fetchall()
    op.drop_table(_JOURNAL)
    op.create_table(
        _JOURNAL,
        sa.Column("page", sa.Integer, nullable=False),
        sa.Column("segments", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("page", name=f"pk_{_JOURNAL}"),
    )
    for start in range(0, len(rows), _SEGMENTS_OF_A_PAGE):
        page = _page(rows[start : start + _SEGMENTS_OF_A_PAGE])
        connection.execute(sa.insert(_NEW).values(segments=page))


def _page(rows: Sequence[sa.Row[Any]]) -> str:
    """Return a page: the fields of each row in order. The content of a row is JSON text."""
    segments = [[*fields, None if content is None else json.loads(content)] for *fields, content in rows]
    return json.dumps(segments, ensure_ascii=False)
