"""Random models for tests: the benchmark's builder, under the name that the tests use."""

from __future__ import annotations

from benchmarks.random_model import DATA, change_config, random_state, windows, write_random_model

__all__ = ["DATA", "change_config", "random_state", "windows", "write_random_model"]
