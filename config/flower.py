"""Flower's configuration: `celery -A workers.app flower --conf=config/flower.py`. Flower runs this file itself.

Address and password come from the settings, so that neither is on a command line. /metrics and /healthcheck stay
open to whoever reaches the port.
"""

from __future__ import annotations

import sys

from config.settings import SettingsError, load_settings

try:
    settings = load_settings()
except SettingsError as error:
    sys.exit(f"flower: {error}")
password = settings.flower.password.get_secret_value()
if not password:
    # Without one anybody who reaches the port could send tasks, and stop workers.
    sys.exit("flower: set WARMLINE_FLOWER_PASSWORD; Flower does not start without a password")

# What follows are Flower's own names.
address = settings.flower.host
port = settings.flower.port
basic_auth = [f"{settings.flower.user}:{password}"]
max_tasks = 10_000  # the newest it keeps in memory

history = settings.stack.data_dir / "flower"
if history.is_dir():  # the one-machine stack's
    persistent = True
    db = str(history / "history")
    state_save_interval = 10_000  # milliseconds; by default it saves on SIGTERM only
