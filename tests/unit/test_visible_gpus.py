"""CUDA_VISIBLE_DEVICES is read where all of the environment is."""

from __future__ import annotations

import pytest

from config.settings import visible_gpus


@pytest.mark.parametrize(
    ("text", "entries"),
    [(None, None), ("", ("",)), ("-1", ("-1",)), ("0, 2", ("0", "2")), ("GPU-8932f937", ("GPU-8932f937",))],
)
def test_cudas_own_variable_is_read_as_a_list(
    monkeypatch: pytest.MonkeyPatch, text: str | None, entries: tuple[str, ...] | None
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if text is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", text)
    assert visible_gpus() == entries
