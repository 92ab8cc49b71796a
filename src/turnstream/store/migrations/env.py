"""Alembic's entry point. Runs the migrations on the given connection, in its open transaction."""

from alembic import context

from turnstream.store.schema import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,
)
context.run_migrations()
