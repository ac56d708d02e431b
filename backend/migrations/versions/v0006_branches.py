"""Branches: which message each follows, and the last that a chat shows. Until now each chat was one.

And what of a chat the model is not to read any more.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("messages", sa.Column("parent_id", sa.String(64)))
    op.add_column("chats", sa.Column("leaf_id", sa.String(64)))
    op.add_column("messages", sa.Column("left_out", sa.Boolean()))
    op.add_column("message_images", sa.Column("left_out", sa.Boolean()))
    # Positions may have gaps, where a reply was asked for once more.
    op.execute(
        "UPDATE messages SET parent_id = (SELECT earlier.id FROM messages AS earlier"
        " WHERE earlier.owner = messages.owner AND earlier.chat_id = messages.chat_id"
        " AND earlier.position < messages.position ORDER BY earlier.position DESC LIMIT 1)"
    )
    op.execute(
        "UPDATE chats SET leaf_id = (SELECT id FROM messages"
        " WHERE messages.owner = chats.owner AND messages.chat_id = chats.id"
        " ORDER BY position DESC LIMIT 1)"
    )
