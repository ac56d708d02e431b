"""The tree of errors that a person can cause or meet.

    SightlineError
    ├── ConfigError             a flag, variable or file that cannot be used
    ├── ImageError              a picture that cannot be taken
    │   ├── NoPagesError            a document that has none of the pages which were asked for
    │   └── ClosingError            none is opened any more, as the app ends
    ├── ImportFileError         a file that cannot become a chat
    ├── FetchError              a web address that cannot be fetched
    │   └── WebPageError            it leads to a page, which may name a preview picture
    ├── StoreError              the chats on disk
    │   └── NotFoundError           no such chat, message or picture, or somebody else's
    ├── LimitError              a limit of this installation, named with its setting
    │   └── AnsweringError          a chat is being answered, and takes nothing until the end of that
    ├── NotAllowedError         what only an operator may do
    └── EngineError             the model could not answer
        ├── EngineUnavailableError  it cannot be reached, failed to start, or was stopped
        ├── EngineDiedError         it ended while it was answering
        ├── KeyRefusedError         its server wants another key
        ├── RateLimitedError        its server has had enough of us for now
        ├── ServerFaultError        its server failed
        ├── NoChatServerError       what answered is no server of this API
        ├── TooManyImagesError
        ├── ContextOverflowError
        ├── UndecodableImageError
        ├── UnknownModelError
        ├── RejectedError           any other request that the engine refuses
        ├── EmptyAnswerError        it answered with nothing
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


class NoPagesError(ImageError):
    """A document that has none of the pages which were asked for, and is as good as before."""


class ClosingError(ImageError):
    """No picture is opened any more: the app is ending. It says nothing of the picture."""


class FetchError(SightlineError):
    """A web address that cannot be fetched; ``what`` names it as the person wrote it."""


class WebPageError(FetchError):
    """A web page instead of a picture; ``preview`` is the address of a picture that it names, if any."""

    def __init__(self, what: str, action: str, preview: str | None = None) -> None:
        super().__init__(what, action)
        self.preview = preview


class StoreError(SightlineError):
    """The chats on disk cannot be read or written."""


class NotFoundError(StoreError):
    """No such chat, message or picture among those of this owner. Somebody else's look the same."""


class ImportFileError(SightlineError):
    """A file that cannot become a chat."""


class InputError(SightlineError):
    """Something that was typed cannot be what was asked for."""


class LimitError(SightlineError):
    """A limit of this installation; ``action`` names the setting that moves it."""


class AnsweringError(LimitError):
    """The chat is being answered, by whichever window it was asked for."""


class NotAllowedError(SightlineError):
    """Only an operator of this installation may do this."""


class EngineError(SightlineError):
    """The model could not answer."""


class EngineUnavailableError(EngineError):
    """The engine cannot be reached, failed to start, or was stopped."""


class EngineDiedError(EngineError):
    """The engine ended while it was answering."""


class KeyRefusedError(EngineError):
    """The server takes no request with this key, or none without one."""


class RateLimitedError(EngineError):
    """The server answers no more requests of ours for now."""


class ServerFaultError(EngineError):
    """The server failed for a reason of its own."""


class NoChatServerError(EngineError):
    """What answered speaks another language than this API: a web page, say."""


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


class EmptyAnswerError(EngineError):
    """The answer ended well, and holds nothing."""


class InterruptedStreamError(EngineError):
    """The answer broke off before its end; what had arrived is kept."""
