"""Adds an owner to each page of the journal. An owner numbers its pages."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_JOURNAL = "turnstream_journal"
_OWNER = "local"
_NEW = sa.table(_JOURNAL, sa.column("owner"), sa.column("page"), sa.column("segments"))


def upgrade() -> None:
    """Add the owner. Keep the stored pages: recovery may need those of a process that died."""
    connection = op.get_bind()
    pages = connection.execute(
        sa.text(f"SELECT page, segments FROM {_JOURNAL} ORDER BY page")  # noqa: S608 - a constant
    ).fetchall()
    op.drop_table(_JOURNAL)
    op.create_table(
        _JOURNAL,
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("page", sa.BigInteger, nullable=False),
        sa.Column("segments", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("owner", "page", name=f"pk_{_JOURNAL}"),
    )
    for page, segments in pages:
        connection.execute(sa.insert(_NEW).values(owner=_OWNER, page=page, segments=segments))
