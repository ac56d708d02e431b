"""What vllm_entry.py finds out about the machine; its names and its parser are tested with vLLM itself."""

import sys
from types import ModuleType, SimpleNamespace

import psutil
import pytest

from backend import vllm_entry

MODULE = "vllm.utils.cpu_resource_utils"


def resources(nodes: list[int], sizes: dict[int, int]) -> ModuleType:
    module = ModuleType(MODULE)
    module.get_memory_affinity = lambda: nodes  # type: ignore[attr-defined]
    module.get_memory_node_info = (  # type: ignore[attr-defined]
        lambda node: SimpleNamespace(available_memory=sizes[node])
    )
    return module


@pytest.mark.parametrize(("nodes", "expected"), [([0, 1], 5), ([1], 9), ([], 5)])
def test_the_smallest_memory_node_counts(
    monkeypatch: pytest.MonkeyPatch, nodes: list[int], expected: int
) -> None:
    found = resources(nodes, {0: 5, 1: 9})
    monkeypatch.setattr(vllm_entry.importlib, "import_module", lambda name: {MODULE: found}[name])

    assert vllm_entry._available_memory() == expected


def test_an_older_vllm_leaves_the_machines_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, MODULE, None)  # importing it fails
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=7))

    assert vllm_entry._available_memory() == 7
