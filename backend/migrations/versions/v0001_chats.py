"""Chats, messages and pictures. Older databases than this there are none."""

revision = "0001"
down_revision = None
