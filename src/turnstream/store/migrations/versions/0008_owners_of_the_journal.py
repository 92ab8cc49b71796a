"""Each page of the journal has an owner, which numbers its pages."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_JOURNAL = "turnstream_journal"
_OWNER = "local"
_NEW = sa.table(_JOURNAL, sa.column("owner"), sa.column("page"), sa.column("segments"))


def upgrade() -> None:
    """What is there is kept: a process that died may have left it to recover."""
    connection = op.get_bind()
    pages = connection.execute(sa.text(f"SELECT page, segments FROM {_JOURNAL} ORDER BY page")).fetchall()  # noqa: S608 - a constant
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
