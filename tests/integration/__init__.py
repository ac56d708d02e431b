"""Tests with the real vLLM: the engine in this process, and the app as a process of its own."""
