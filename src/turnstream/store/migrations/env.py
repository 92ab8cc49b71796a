"""Alembic's way in: runs the migrations on the connection that it is given, in the transaction that is open there."""

from alembic import context

from turnstream.store.schema import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,
)
context.run_migrations()
