"""A process that does nothing but deliver, for tests that kill it: `python -m tests.deliverer_process`."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from config.logging import configure_logging
from config.settings import Settings, load_settings, process_environment
from warmline.webhooks.deliverer import Deliverer


def start_deliverer(settings: Settings, log: Path) -> subprocess.Popen[bytes]:
    """Starts one; it is the caller's to end."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.deliverer_process"],
            stdin=subprocess.DEVNULL,
            stderr=output,
            env=process_environment(settings),
            cwd=Path(__file__).parents[1],
        )


if __name__ == "__main__":
    found = load_settings()
    configure_logging(found, process="deliverer")
    deliverer = Deliverer(found, preferred=True)
    deliverer.start()
    signal.sigwait({signal.SIGTERM})
    deliverer.stop()
