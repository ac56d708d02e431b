"""Who may import what: the arrows and the rooms of docs/architecture.md."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
OURS = ("app", "ui", "backend")  # an import goes from left to right only
NOT_OURS = ("tests", "bench", "training", "install")

# package -> where it may be imported: folders end with a slash
ROOMS: dict[str, tuple[str, ...]] = {
    "gradio": ("ui/",),
    "openai": ("backend/openai_engine.py",),
    # Files of strangers are decoded in processes of their own; who starts these decodes nothing.
    "PIL": ("backend/images.py", "backend/encoding.py", "backend/pdf.py", "backend/picture_worker.py"),
    "pillow_heif": ("backend/images.py", "backend/picture_worker.py"),
    "pypdfium2": ("backend/pdf.py",),
    "simplejpeg": ("backend/images.py", "backend/encoding.py"),
    "numpy": ("backend/encoding.py",),
    "pebble": ("backend/picture_pool.py",),
    "httpx2": (
        "backend/fetch.py",
        "backend/inprocess.py",
        "backend/kept_connections.py",
        "backend/openai_engine.py",
        "backend/asgi_transport.py",
    ),
    "alembic": ("backend/migrations/",),
    "jsonschema": ("backend/captioning/fields.py",),
    "rich": ("backend/caption_command.py",),
    "sqlalchemy": (
        "backend/captioning/job_file.py",
        "backend/captioning/job_tables.py",
        "backend/migrations/",
        "backend/store.py",
        "backend/store_disk.py",
        "backend/store_branches.py",
        "backend/store_files.py",
        "backend/store_limits.py",
        "backend/store_removal.py",
        "backend/store_rows.py",
        "backend/store_schema.py",
        "backend/store_search.py",
    ),
    "torch": ("backend/vllm_plugins.py",),
    "starlette": ("ui/",),
    "typer": ("app.py",),
    "vllm": (),  # backend/vllm_entry.py names its modules in a table
    "transformers": (),
    "torchvision": (),
    "httpx": (),
    "requests": (),
    "aiohttp": (),
    "urllib.request": (),
    "urllib3": (),
    "http.client": (),
}
IMPORTS_BY_NAME = ("backend/vllm_entry.py", "backend/vllm_plugins.py")
MUTABLE_CALLS = {"list", "dict", "set", "bytearray", "deque", "defaultdict", "Counter", "OrderedDict"}


def modules() -> list[str]:
    found = [
        REPOSITORY / "app.py",
        *(REPOSITORY / "ui").rglob("*.py"),
        *(REPOSITORY / "backend").rglob("*.py"),
    ]
    return sorted(path.relative_to(REPOSITORY).as_posix() for path in found)


def imported(tree: ast.AST) -> Iterator[str]:
    """Each module that is imported anywhere in a file, in functions too; relative ones begin with a dot."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def trespasses(path: str, source: str) -> set[str]:
    """What a file imports though it may not."""
    top = path.partition("/")[0].removesuffix(".py")
    forbidden = {*OURS[: OURS.index(top)], *NOT_OURS}
    if path == "backend/vllm_plugins.py":
        forbidden |= set(OURS)
    if path in ("backend/errors.py", "backend/types.py"):
        forbidden |= {*OURS, "asyncio", "os", "pathlib"}
    forbidden |= {
        package
        for package, rooms in ROOMS.items()
        if not any(path == room or (room.endswith("/") and path.startswith(room)) for room in rooms)
    }
    tree = ast.parse(source)
    found = {
        name for name in imported(tree) if name.startswith(".") or any(within(name, no) for no in forbidden)
    }
    if path not in IMPORTS_BY_NAME:
        found |= {"import_module" for node in ast.walk(tree) if calls(node, {"import_module", "__import__"})}
    return found


def calls(node: ast.AST, names: set[str]) -> bool:
    if not isinstance(node, ast.Call):
        return False
    function = node.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in names


def mutable_state(source: str) -> set[str]:
    """Names that a module binds to something that can be changed, and that are no constants."""
    found = set()
    for node in ast.parse(source).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        kinds = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
        if isinstance(value, kinds) or (value is not None and calls(value, MUTABLE_CALLS)):
            found |= {
                target.id for target in targets if isinstance(target, ast.Name) and not target.id.isupper()
            }
    return found | {
        name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Global) for name in node.names
    }


def test_all_of_the_house_is_looked_at() -> None:
    assert {"app.py", "ui/chat.py", "backend/inprocess.py"} <= set(modules())


@pytest.mark.parametrize("path", modules())
def test_every_import_is_in_its_room_and_points_the_right_way(path: str) -> None:
    assert trespasses(path, (REPOSITORY / path).read_text(encoding="utf-8")) == set()


@pytest.mark.parametrize("path", modules())
def test_no_module_holds_state(path: str) -> None:
    assert mutable_state((REPOSITORY / path).read_text(encoding="utf-8")) - {"__all__"} == set()


@pytest.mark.parametrize("room", sorted({room for rooms in ROOMS.values() for room in rooms}))
def test_every_room_is_there(room: str) -> None:
    assert (REPOSITORY / room).exists()


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("backend/store.py", "import ui"),
        ("backend/store.py", "from ui.chat import Chat"),
        ("backend/store.py", "def f():\n    import app"),
        ("ui/chat.py", "from app import main"),
        ("ui/chat.py", "from tests.conftest import x"),
        ("app.py", "import gradio as gr"),
        ("backend/store.py", "from gradio import Blocks"),
        ("ui/chat.py", "import openai.types"),
        ("ui/chat.py", "from PIL import Image"),
        ("backend/store.py", "import httpx2"),
        ("ui/chat.py", "import sqlalchemy"),
        ("backend/vllm_entry.py", "import vllm"),
        ("backend/inprocess.py", "from vllm.platforms import current_platform"),
        ("backend/fetch.py", "import urllib.request"),
        ("backend/fetch.py", "from urllib import request"),
        ("backend/fetch.py", "import httpx, re"),
        ("backend/fetch.py", "try:\n    import requests\nexcept ImportError:\n    pass"),
        ("backend/store.py", "from . import types"),
        ("backend/vllm_plugins.py", "from backend import types"),
        ("backend/types.py", "import os"),
        ("backend/store.py", "import importlib\nimportlib.import_module('vllm')"),
        ("backend/store.py", "__import__('vllm')"),
    ],
)
def test_a_trespass_would_be_seen(path: str, source: str) -> None:
    assert trespasses(path, source)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("app.py", "from ui import server\nfrom backend.config import Settings"),
        ("ui/chat.py", "import gradio as gr\nfrom backend.types import Text"),
        ("backend/store.py", "import sqlalchemy.orm\nfrom backend.types import Text"),
        ("backend/fetch.py", "from urllib.parse import urlsplit\nimport httpx2"),
        ("backend/store.py", "import requests_like\nimport uiautomation"),
    ],
)
def test_what_is_allowed_is_no_trespass(path: str, source: str) -> None:
    assert trespasses(path, source) == set()


@pytest.mark.parametrize(
    "source",
    [
        "cache = {}",
        "cache: dict[str, int] = {}",
        "seen = set()",
        "_jobs = collections.deque()",
        "def f():\n    global x",
    ],
)
def test_state_would_be_seen(source: str) -> None:
    assert mutable_state(source)


@pytest.mark.parametrize("source", ["NAMES = {}", "def f():\n    x = []", "x = ()", "log = getLogger()"])
def test_constants_are_no_state(source: str) -> None:
    assert mutable_state(source) == set()
