"""Adds the stop sequence at which a turn's answer ended."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"

_TURNS = "turnstream_turns"


def upgrade() -> None:
    columns = {column["name"] for column in sa.inspect(op.get_bind()).get_columns(_TURNS)}
    if "stop_sequence" not in columns:
        op.add_column(_TURNS, sa.Column("stop_sequence", sa.Text))
