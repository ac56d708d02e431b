"""The tree of errors that a person can cause or meet.

    SightlineError
    ├── ConfigError             a flag, variable or file that cannot be used
    ├── ImageError              a picture that cannot be taken
    ├── FetchError              a web address that cannot be fetched
    ├── StoreError              the chats on disk
    │   └── NotFoundError           no such chat, message or picture, or somebody else's
    ├── LimitError              a limit of this installation, named with its setting
    └── EngineError             the model could not answer
        ├── EngineUnavailableError  it failed to start, or was stopped
        ├── EngineDiedError         it ended while it was answering
        ├── TooManyImagesError
        ├── ContextOverflowError
        ├── UndecodableImageError
        ├── UnknownModelError
        ├── RejectedError           any other request that the engine refuses
        └── InterruptedStreamError  the answer broke off

Each says in ``what`` what happened and in ``action`` what to do next, as whole sentences for a
person: no traceback, no path of the server, no address of it, no secret.
"""


class SightlineError(Exception):
    """Base of all errors that may be shown; ``str()`` gives both sentences."""

    def __init__(self, what: str, action: str) -> None:
        super().__init__(what, action)
        self.what = what
        self.action = action

    def __str__(self) -> str:
        return f"{self.what} {self.action}"


class ConfigError(SightlineError):
    """A flag, an environment variable or a file that cannot be used; the command ends with status 2."""


class ImageError(SightlineError):
    """A picture that cannot be taken; ``what`` begins with its name."""


class FetchError(SightlineError):
    """A web address that cannot be fetched; ``what`` names it as the person wrote it."""


class StoreError(SightlineError):
    """The chats on disk cannot be read or written."""


class NotFoundError(StoreError):
    """No such chat, message or picture among those of this owner. Somebody else's look the same."""


class LimitError(SightlineError):
    """A limit of this installation; ``action`` names the setting that moves it."""


class EngineError(SightlineError):
    """The model could not answer."""


class EngineUnavailableError(EngineError):
    """The engine failed to start, or was stopped."""


class EngineDiedError(EngineError):
    """The engine ended while it was answering."""


class TooManyImagesError(EngineError):
    """More pictures in the conversation than the engine accepts in one prompt."""


class ContextOverflowError(EngineError):
    """The conversation is longer than the model's context."""


class UndecodableImageError(EngineError):
    """The engine could not read a picture that we could."""


class UnknownModelError(EngineError):
    """The engine does not serve the model that was asked for."""


class RejectedError(EngineError):
    """The engine refused the request for a reason of its own."""


class InterruptedStreamError(EngineError):
    """The answer broke off before its end; what had arrived is kept."""
