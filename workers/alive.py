"""A container's health check: asks the worker in it how it is. `python -m workers.alive`, or with `--ready`.

It loads nothing of the worker's, because it is run again and again, and needs no curl in the image.
"""

from __future__ import annotations

import argparse
import http.client
import sys
from collections.abc import Sequence

from config.settings import SettingsError, load_settings

ANSWER_SECONDS = 5.0
BAD_SETTINGS = 2  # exit code


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0: it is. 1: it is not, or does not answer. 2: bad settings, or the worker serves no pages."""
    parser = argparse.ArgumentParser(
        prog="python -m workers.alive",
        description="Asks a worker on this host for /live, and ends with 0 for 200.",
    )
    parser.add_argument("--ready", action="store_true", help="ask for /ready instead")
    path = "/ready" if parser.parse_args(arguments).ready else "/live"
    try:
        metrics = load_settings().metrics
    except SettingsError as error:
        print(f"workers.alive: {error}", file=sys.stderr)
        return BAD_SETTINGS
    if metrics.port == 0:
        print("workers.alive: WARMLINE_METRICS_PORT is 0, so the worker cannot be asked", file=sys.stderr)
        return BAD_SETTINGS
    host = "127.0.0.1" if metrics.host in {"", "0.0.0.0", "::"} else metrics.host  # noqa: S104  # compared, not bound
    connection = http.client.HTTPConnection(host, metrics.port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        said = answer.read(1000).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        print(f"The worker does not answer: {error}.", file=sys.stderr)
        return 1
    finally:
        connection.close()
    print(said)
    return 0 if answer.status == http.client.OK else 1


if __name__ == "__main__":
    sys.exit(main())
