"""What an engine is to read of a chat: its messages as turns, with the bytes of their pictures."""

from collections.abc import Sequence

from backend.store_disk import Pictures
from backend.store_rows import Role
from backend.store_schema import MessageImageRow, MessageRow
from backend.types import Image, Message, MessageStatus, Part, Text

LEFT_OUT = "[A picture that was here is left out.]"  # so that others keep their numbers


def turns(
    rows: Sequence[MessageRow], pictures: Pictures, continued: str | None = None
) -> tuple[Message, ...]:
    """The messages of one branch, with users and assistants taking turns.

    The chat templates of several models (Mistral's among them) refuse two messages of a role in a row. A
    reply without text, and one that streams unless it is the one to be ``continued``, is left out, and the
    question that it owed an answer becomes one message with the next question. What had arrived of a reply
    that broke off is kept, as the person saw it. In a message the pictures come before the text; an empty
    one is left out, and what a person has left out.
    """
    found: list[tuple[Role, list[Part]]] = []
    for row in rows:
        streams = row.status == MessageStatus.STREAMING and row.id != continued
        parts = [] if streams or row.left_out else _parts(row, pictures)
        if not parts:
            continue
        if found and found[-1][0] == row.role:
            found[-1][1].extend(parts)
        else:
            found.append((row.role, parts))
    return tuple(Message(role, tuple(parts)) for role, parts in found)


def _parts(row: MessageRow, pictures: Pictures) -> list[Part]:
    parts: list[Part] = [
        Text(LEFT_OUT) if image.left_out else _image(image, pictures) for image in row.images
    ]
    if row.text.strip():
        parts.append(Text(row.text))
    return parts


def _image(row: MessageImageRow, pictures: Pictures) -> Image:
    image = row.image
    return Image(image.sha256, image.media_type, image.width, image.height, pictures.read(image), row.name)
