"""Adds a table for the server's secrets: random keys that it makes for itself."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

_SECRETS = "turnstream_secrets"


def upgrade() -> None:
    op.create_table(
        _SECRETS,
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("value", sa.String(255), nullable=False),
        sa.PrimaryKeyConstraint("name", name=f"pk_{_SECRETS}"),
        if_not_exists=True,
    )
