"""A torchvision whose compiled operators do not fit the torch beside it does not stop vLLM."""

import importlib.util
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is None, reason="torchvision is not installed"
)


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture(scope="module")
def broken_here() -> None:
    if run("import torchvision").returncode == 0:
        pytest.skip("torchvision's operators load here")


@pytest.mark.usefixtures("broken_here")
def test_it_can_be_imported_once_the_plugin_has_run() -> None:
    ran = run(
        "from backend.vllm_plugins import torchvision_ops\n"
        "torchvision_ops()\n"
        "import torchvision.transforms.v2.functional\n"
    )
    assert ran.returncode == 0, ran.stderr


@pytest.mark.usefixtures("broken_here")
def test_where_its_operators_load_the_plugin_declares_nothing() -> None:
    ran = run(
        "import sys, torch\n"
        "load = torch.ops.load_library\n"
        "torch.ops.load_library = lambda path: None if 'torchvision' in str(path) else load(path)\n"
        "from backend.vllm_plugins import torchvision_ops\n"
        "torchvision_ops()\n"
        "torch.ops.load_library = load\n"
        "assert 'torchvision' not in sys.modules\n"
        "import torchvision\n"
    )
    assert "operator torchvision::nms does not exist" in ran.stderr
