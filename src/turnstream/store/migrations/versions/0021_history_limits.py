"""Adds the number of earlier turns that the model of a turn gets."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"

_TURNS = "turnstream_turns"


def upgrade() -> None:
    columns = {column["name"] for column in sa.inspect(op.get_bind()).get_columns(_TURNS)}
    if "history_limit" not in columns:
        op.add_column(_TURNS, sa.Column("history_limit", sa.BigInteger))
