"""The command `warmline`, also as `python -m warmline`: quick to start, and quiet when it is stopped meanwhile."""

from __future__ import annotations

import signal


def main() -> None:
    """Runs the command. Ctrl-C while its modules are loaded ends it at once, without a traceback."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    from warmline.cli.main import main as run_command  # half a second in which nothing is to be tidied up

    signal.signal(signal.SIGINT, before)
    run_command()


if __name__ == "__main__":
    main()
