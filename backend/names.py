"""Names of files, as they may be shown."""

import re

MAX_NAME_CHARS = 80


def shown_name(name: str) -> str:
    """The base name of a file in a form that is safe to show: no path, no invisible character, 80 at most.

    White space becomes single spaces. Controls and all format characters go, the bidirectional
    overrides among them (Unicode UAX #9), except the two joiners that Persian, Hindi and emoji need.
    """
    base = re.split(r"[/\\]", name)[-1]
    visible = "".join(c for c in " ".join(base.split()) if c.isprintable() or c in "\u200c\u200d").strip()
    if not visible.strip(".\u200c\u200d "):
        return "picture"
    return visible if len(visible) <= MAX_NAME_CHARS else f"{visible[: MAX_NAME_CHARS - 20]}…{visible[-19:]}"
