"""Requests over connections that were kept from earlier ones, which a server may close at any time."""

import httpx2


async def follow(request: httpx2.Request) -> None:
    """An event hook: note how far the request comes."""
    request.extensions["trace"] = _Course()


def hung_up_before(request: httpx2.Request, error: BaseException | None) -> bool:
    """Whether the server closed a connection that had rested, rather than failed at this request."""
    course = request.extensions.get("trace")
    ended = isinstance(error, httpx2.NetworkError | httpx2.RemoteProtocolError)
    return ended and isinstance(course, _Course) and course.ended_on_a_kept_connection


class _Course:
    """httpx's extension ``trace``: how far a request came."""

    def __init__(self) -> None:
        self._steps: set[str] = set()

    async def __call__(self, name: str, _: object) -> None:
        self._steps.add(name.partition(".")[2])  # behind the part of httpcore that tells it

    @property
    def ended_on_a_kept_connection(self) -> bool:
        """Whether it went over a connection that was there before, and no headers came back."""
        is_new = self._steps & {"connect_tcp.started", "start_tls.started"}
        was_answered = "receive_response_headers.complete" in self._steps
        return "send_request_headers.started" in self._steps and not (is_new or was_answered)
