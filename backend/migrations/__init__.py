"""How the tables of ``store_schema.py`` came to be what they are, step by step (Alembic).

A new database gets today's tables at once; an older one is brought up to date by the steps in
``versions/``. Alembic is imported only where there is a step to take: that takes longer than all else
that opens the store.
"""

from sqlalchemy import Column, Connection, MetaData, String, Table, func, insert, select

from backend.errors import StoreError
from backend.store_schema import Base, SchemaRow
from backend.store_search import create_index

HEAD = "0007"  # the newest of versions/
FIRST = "0001"
# Where Alembic notes the revision, in the shape that Alembic gives it.
_NOTED = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))


def bring_up_to_date(connection: Connection) -> None:
    """Create the tables, or change older ones, within the transaction of ``connection``.

    Raises:
        StoreError: a newer version of Sightline made them.
    """
    found = _revision(connection)
    if found is None:
        Base.metadata.create_all(connection)
        create_index(connection)
        connection.execute(insert(SchemaRow).values(version=int(HEAD)))
    elif found > HEAD:  # looked at before anything is changed: a newer database is left as it is
        raise StoreError(
            "These chats were written by a newer version of Sightline.",
            "Update Sightline, or choose another folder with --data-dir.",
        )
    if not _has(connection, _NOTED.name):
        _NOTED.create(connection)
        connection.execute(insert(_NOTED).values(version_num=found or HEAD))
    if found is not None and found < HEAD:
        _upgrade(connection)


def _revision(connection: Connection) -> str | None:
    """The revision that the tables have; ``None`` where there are none.

    Before Alembic kept it, ``SchemaRow`` did, as a number. It still does, because versions of Sightline
    from that time look there whether a newer one has been at work.
    """
    if _has(connection, _NOTED.name):
        return str(connection.scalar(select(func.max(_NOTED.c.version_num))) or FIRST)
    if _has(connection, SchemaRow.__tablename__):
        return f"{connection.scalar(select(func.max(SchemaRow.version))) or 1:04}"
    return None


def _has(connection: Connection, table: str) -> bool:
    return connection.dialect.has_table(connection, table)


def _upgrade(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415 - seldom needed, and takes as long as all else together
    from alembic.config import Config  # noqa: PLC0415

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", "backend:migrations")
    command.upgrade(config, "head")
    connection.execute(insert(SchemaRow).values(version=int(HEAD)))
