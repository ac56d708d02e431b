"""Messages that were deleted a moment ago, so that they can be had back."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("messages", sa.Column("deleted_at", sa.Double()))
