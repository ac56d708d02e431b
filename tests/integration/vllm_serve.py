"""``vllm serve`` as the documents write it: a process of its own with the demo model."""

import os
import re
import signal
import subprocess
import sysconfig
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import psutil

from .app_process import ENVIRONMENT, free_port, get, wait_for

ROOT = Path(__file__).resolve().parents[2]
MODEL = "assets/demo-model"
IMAGE_LIMIT = 10
CONTEXT_LENGTH = 4096
# Mistral's documentation, "Self-deployment, vLLM"; the limits as in vLLM's example for Mistral-Small-3.1.
LINE = (
    *("serve", MODEL, "--tokenizer_mode", "mistral", "--config_format", "mistral"),
    *("--load_format", "mistral", "--limit-mm-per-prompt", f'{{"image":{IMAGE_LIMIT}}}'),
    *("--max-model-len", str(CONTEXT_LENGTH)),
)
FOR_TESTS = ("--enforce-eager", "--logits-processors", f"{__package__}.never_ending:NeverEnding")
START_TIMEOUT_S = 240.0
STOP_TIMEOUT_S = 30.0


class VllmServe:
    """A server that can be stopped and started again at the same address. ``api_key``: what it wants now."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.base_url = f"http://127.0.0.1:{self.port}/v1"
        self.api_key = ""
        self._log = folder / "vllm.log"
        self._path = os.pathsep.join([*_missing_metadata(folder), str(ROOT / "tests")])
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, api_key: str = "") -> None:
        """Begin to start it; returns at once."""
        self.api_key = api_key
        command = [str(Path(sysconfig.get_path("scripts")) / "vllm"), *LINE, *FOR_TESTS]
        environment = {
            **ENVIRONMENT,
            "PYTHONPATH": self._path,
            "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            **({"VLLM_API_KEY": api_key} if api_key else {}),
        }
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "--port", str(self.port)],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait_until_it_answers(self) -> None:
        """Wait until the model is loaded."""
        wait_for(self._answers, "vllm serve answers", START_TIMEOUT_S)

    def stop(self) -> None:
        """End it as a service manager does, and whatever it leaves behind."""
        assert self._process is not None
        with suppress(psutil.NoSuchProcess):
            started = psutil.Process(self._process.pid).children(recursive=True)
            self._process.send_signal(signal.SIGTERM)
            _, left = psutil.wait_procs([*started, psutil.Process(self._process.pid)], STOP_TIMEOUT_S)
            for process in left:
                process.kill()
        self._process.wait(STOP_TIMEOUT_S)

    def requests(self) -> int:
        """How many requests it is answering, or has in line, by its own metrics."""
        status, text = get(self.port, "/metrics")
        assert status == 200, text
        counts = re.findall(r"^vllm:num_requests_(?:running|waiting)\{[^}]*\} (\S+)$", text, re.MULTILINE)
        assert counts, "it counts requests under another name now"
        return round(sum(map(float, counts)))

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"vllm serve has ended:\n{self._log.read_text(errors='replace')}"
        return get(self.port, "/health")[0] == 200


def _missing_metadata(folder: Path) -> list[str]:
    """A folder for PYTHONPATH with metadata of a distribution ``vllm``, where there is none.

    The command reads its version there, and ``vllm-cpu`` installs it under its own name only.
    """
    with suppress(metadata.PackageNotFoundError):
        metadata.version("vllm")
        return []
    version = f"{metadata.version('vllm-cpu')}+cpu"
    info = folder / "metadata" / f"vllm-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")
    return [str(info.parent)]
