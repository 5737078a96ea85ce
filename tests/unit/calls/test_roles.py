"""Which role a channel gets."""

from __future__ import annotations

import pytest

from warmline.calls.heard import channel_roles


@pytest.mark.parametrize(
    ("channels", "asked", "expected"),
    [
        (1, (), ("mono",)),
        (2, (), ("channel_0", "channel_1")),
        (2, ("agent", "customer"), ("agent", "customer")),
        (1, ("customer",), ("customer",)),
        (3, ("agent", "customer"), ("agent", "customer", "channel_2")),
        (1, ("agent", "customer"), ("mono",)),  # a mix, or one side: nobody knows which
        (2, ("a", "b", "c"), ("channel_0", "channel_1")),
    ],
)
def test_roles(channels: int, asked: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert channel_roles(channels, asked) == expected
