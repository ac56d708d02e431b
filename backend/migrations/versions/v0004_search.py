"""An index of the words of messages, where the database can keep one."""

from alembic import op

from backend.store_search import create_index

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    create_index(op.get_bind())
