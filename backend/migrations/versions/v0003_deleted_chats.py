"""Chats that were deleted a moment ago, so that they can be had back."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("chats", sa.Column("deleted_at", sa.Double()))
