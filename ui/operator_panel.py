"""What operators see below the settings: the engine, the servers, and where the figures are.

Everybody's page has these parts, hidden; each handler asks on the server who calls it.
"""

import asyncio
import html
from dataclasses import dataclass
from typing import Any, NamedTuple

import gradio as gr

from backend.errors import ConfigError, SightlineError
from backend.inprocess import InProcessEngine
from backend.router import Router
from backend.servers import Server, check_key, default_name, split_name
from backend.types import Capabilities, EngineState
from ui import render
from ui.operators import Operators

MAX_NAME_CHARS = 40
LOOK_EVERY_S = 3

JS_CONFIRM_RESTART = """() =>
  confirm("Restart the model? Replies that are being written break off.") ? "yes" : "" """
FORM_NOTE = """
<p class="hint">Its models come into everybody's menu, until the app stops. Its address may be one of this
network; its key stays on the server.</p>
"""


class PanelView(NamedTuple):
    """What a handler changes, in the order of the section's outputs."""

    section: Any = gr.skip()
    engine: Any = gr.skip()
    servers: Any = gr.skip()
    remove: Any = gr.skip()
    notice: Any = gr.skip()
    name: Any = gr.skip()
    url: Any = gr.skip()
    key: Any = gr.skip()
    timer: Any = gr.skip()


@dataclass(frozen=True, slots=True)
class Panel:
    """The handlers, and what they need. ``engine`` is the one of this process, where there is one."""

    operators: Operators
    router: Router
    engine: InProcessEngine | None

    async def show(self, request: gr.Request) -> PanelView:
        """The section for an operator; for others it stays hidden."""
        if not self.operators.knows(request):
            return PanelView()
        return await self._view(section=gr.update(visible=True), timer=gr.update(active=True))

    async def look(self, request: gr.Request) -> Any:
        """The engine's line, which an operator's page asks for now and then."""
        return await self._engine_line() if self.operators.knows(request) else ""

    async def restart(self, confirmed: Any, request: gr.Request) -> PanelView:
        """End the engine and load it again, after the person said yes."""
        try:
            self.operators.require(request)
            if confirmed != "yes" or self.engine is None:
                return PanelView()
            await asyncio.to_thread(self.engine.restart)
        except SightlineError as error:
            return PanelView(notice=render.notice(str(error)))
        return await self._view(notice=_told("The model is being loaded again."))

    async def add_server(self, name: Any, url: Any, key: Any, request: gr.Request) -> PanelView:
        """Offer a server's models too; the form is empty afterwards."""
        try:
            self.operators.require(request)
            server = read_server(name, url, key)
            self.router.add_server(server)
        except SightlineError as error:
            return PanelView(notice=render.notice(str(error)))
        told = added(server.name, await self.router.server_state(server.name))
        return await self._view(notice=told, name="", url="", key="")

    async def remove_server(self, name: Any, request: gr.Request) -> PanelView:
        """Offer a server's models no more."""
        try:
            self.operators.require(request)
        except SightlineError as error:
            return PanelView(notice=render.notice(str(error)))
        if not isinstance(name, str) or name not in {server.name for server in self.router.servers}:
            return PanelView(notice=render.notice("Choose the server to remove."))
        self.router.remove_server(name)
        return await self._view(notice=_told(f"Removed “{name}”."))

    async def _view(self, **changes: Any) -> PanelView:
        servers = [(f"{server.name}: {server.base_url}", server.name) for server in self.router.servers]
        view = PanelView(
            engine=await self._engine_line(),
            servers=gr.update(choices=servers, value=None, visible=bool(servers)),
            remove=gr.update(visible=bool(servers)),
        )
        return view._replace(**changes)

    async def _engine_line(self) -> str:
        return engine_line(await self.engine.capabilities()) if self.engine is not None else ""


def read_server(name: Any, url: Any, key: Any) -> Server:
    """The server of the form; without a name it is called by its host.

    Raises:
        ConfigError: that is no server's address, no name, or no key.
    """
    posted = [value.strip() if isinstance(value, str) else "" for value in (name, url, key)]
    try:
        _, address = split_name(posted[1])
    except ConfigError:
        raise ConfigError(
            "That is not the address of a server.",
            "It looks like https://host/v1, without a user name in it.",
        ) from None
    called = posted[0] or default_name(address)
    if len(called) > MAX_NAME_CHARS or not called.isprintable() or "@" in called:
        raise ConfigError(
            "That is no name for a server.", f"Write up to {MAX_NAME_CHARS} letters, without @."
        )
    return Server(called, address, check_key(posted[2], called))


def engine_line(now: Capabilities) -> str:
    """The engine of this process in one line."""
    words = {
        EngineState.READY: "is ready",
        EngineState.LOADING: f"is loading: {now.stage}",
        EngineState.FAILED: f"failed: {now.stage}",
        EngineState.STOPPED: "is stopped",
    }[now.state]
    name = now.models[0].id if now.models else "The model"
    return f"<p><b>{html.escape(name)}</b> {html.escape(words)}</p>"


def added(name: str, now: Capabilities) -> str:
    """The line that says that a server was added, and whether it is of any use yet."""
    count = len(now.models)
    if now.state is EngineState.READY and count:
        return _told(f"Added “{name}” with {count} model{'s' * (count > 1)}.")
    why = "It has not answered yet." if now.state is EngineState.LOADING else now.stage
    return render.notice(
        f"Added “{name}”. {why or 'It offers no model.'} Its models come into the menu once it offers some."
    )


def _told(text: str) -> str:
    return f'<p class="notice" role="status">{html.escape(text)}</p>'


def operator_section(
    panel: Panel, page: gr.Blocks, refresh: gr.Button, plain: dict[str, Any], quick: dict[str, Any]
) -> None:
    """Lay it out, and say which handler answers what. ``refresh`` is pressed when the menu changes."""
    with gr.Column(visible=False, elem_id="operator-panel") as section:
        gr.Markdown("### Operator")
        engine = gr.HTML(padding=False, visible=panel.engine is not None, elem_id="operator-engine")
        with gr.Row(visible=panel.engine is not None):
            restart = gr.Button("Restart the model", size="sm", elem_id="restart-model")
        servers = gr.Radio([], label="Servers", elem_id="servers", interactive=True)
        remove = gr.Button("Remove this server", size="sm", elem_id="remove-server")
        with gr.Accordion("Add a server", open=False, elem_id="add-server-form"):
            gr.HTML(FORM_NOTE, padding=False)
            url = gr.Textbox(
                label="Address", placeholder="https://host/v1", max_lines=1, elem_id="server-url"
            )
            name = gr.Textbox(label="Name", placeholder="its host", max_lines=1, elem_id="server-name")
            key = gr.Textbox(
                label="Key", placeholder="none", type="password", max_lines=1, elem_id="server-key"
            )
            add = gr.Button("Add this server", size="sm", elem_id="add-server")
        notice = gr.HTML(elem_id="operator-notice", padding=False)
        gr.HTML('<a href="metrics" target="_blank">Figures for Prometheus</a>', padding=False)
        if panel.operators.accounts:
            gr.HTML('<a href="logout" id="log-out">Log out</a>', padding=False)
        confirmed = gr.Textbox(visible="hidden", elem_id="restart-confirmed")

        timer = gr.Timer(LOOK_EVERY_S, active=False)

    view = list(PanelView(section, engine, servers, remove, notice, name, url, key, timer))
    timer.tick(panel.look, None, [engine], **quick)
    page.load(panel.show, None, view, **quick)
    refresh.click(panel.show, None, view, **quick)
    restart.click(panel.restart, [confirmed], view, js=JS_CONFIRM_RESTART, **plain)
    add.click(panel.add_server, [name, url, key], view, **plain)
    remove.click(panel.remove_server, [servers], view, **plain)
