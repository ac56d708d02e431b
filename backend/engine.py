"""What the rest of the house knows of an engine."""

from collections.abc import AsyncGenerator
from typing import Protocol

from backend.types import Capabilities, ChatRequest, Event

# Tokens that come within this time travel together, from the model to the eye: about 20 updates a second,
# as many as it follows. Whoever takes them from the model waits so long, and nobody after that: two steps
# that wait are never in time with one another, and hold each token twice.
TOGETHER_S = 0.045


class Engine(Protocol):
    """Something that answers chat requests, in this process or over a network.

    The methods may be called from any event loop, several requests at once.
    """

    async def capabilities(self) -> Capabilities:
        """What it can do and how far it is. Cheap: callers ask once a second. Never raises."""
        ...

    def stream(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        """Answer, event by event; the last is ``Finished``.

        Waits while the engine loads. Closing the iterator (``aclose``, or cancelling the task that
        waits on it) ends the request in the engine within a second, whether tokens flow or not.

        Raises:
            EngineError: the request was refused, or the answer broke off; its class says which.
        """
        ...
