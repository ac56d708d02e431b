"""Of a reply's figures: whether they are ours, and which parameters the model does not take."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("messages", sa.Column("estimated", sa.Boolean()))
    op.add_column("messages", sa.Column("ignored", sa.Text()))
