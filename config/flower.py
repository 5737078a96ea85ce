"""Flower's configuration: `celery -A workers.app flower --conf=config/flower.py`. Flower runs this file itself.

Address and password come from the settings, so that neither is on a command line. Every page and every answer of
Flower's API needs the password; only /metrics and /healthcheck, which name workers and tasks and nothing else, are
open to whoever reaches the port. Nobody can send tasks or stop workers there: it is for looking.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import Any

from config.settings import SettingsError, load_settings

try:
    settings = load_settings()
except SettingsError as error:
    sys.exit(f"flower: {error}")
password = settings.flower.password.get_secret_value()
if not password:
    # Without one anybody who reaches the port could look, and Flower's API would wait for a variable to open it.
    sys.exit("flower: set WARMLINE_FLOWER_PASSWORD; Flower does not start without a password")


def directory_for_state(path: Path) -> Path:
    """The directory, made where it is missing. Ends the process with a sentence where it is of no use.

    Flower unpickles what it finds there, so nobody else may write to it.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.stat().st_mode & stat.S_IWOTH:
            sys.exit(f"flower: everybody can write to {path} (WARMLINE_FLOWER_STATE_DIR): chmod o-w {path}")
        if not os.access(path, os.W_OK | os.X_OK):
            sys.exit(f"flower: {path} (WARMLINE_FLOWER_STATE_DIR) cannot be written to")
    except OSError as error:
        sys.exit(f"flower: {path} (WARMLINE_FLOWER_STATE_DIR) cannot be used: {error.strerror}")
    return path


# What follows are Flower's own names. They win over variables like FLOWER_BASIC_AUTH.
address = settings.flower.host
port = settings.flower.port
basic_auth = [
    f"{settings.flower.user}:{password}"
]  # for pages and API alike, whatever FLOWER_UNAUTHENTICATED_API is
read_only = True  # the API and the command line send and cancel jobs: a task that the ledger does not know is lost
max_tasks = 10_000  # the newest it keeps in memory
max_workers = 1_000
purge_offline_workers = 3600  # seconds: a worker that is started again has another name
auto_refresh = True
natural_time = True  # "2 minutes ago"; older than a day: the time in UTC
tasks_columns = "name,uuid,state,received,started,runtime,worker,exception"
if settings.flower.url_prefix.strip("/"):
    url_prefix = settings.flower.url_prefix.strip("/")
    xheaders = True

if settings.flower.state_dir:
    os.umask(0o077)
    persistent = True
    db = str(directory_for_state(Path(settings.flower.state_dir).expanduser()) / "history")
    state_save_interval = 10_000  # milliseconds; by default it saves on SIGTERM only


def format_task(task: Any) -> Any:
    """What the pages show of a task: a name that reads well. Its id is the job's; arguments are hidden.

    Workers hide them too, in what they tell; this is for what older ones told.
    """
    lane = task.args if task.args in {"live lane", "bulk lane"} else ""  # as warmline/jobs/queue.py says it
    if task.name == "warmline.analyze":
        task.name = f"analyze a call, {lane}" if lane else "analyze a call"
    task.args, task.kwargs, task.result = lane or "hidden", "", None
    return task
