"""Where the dashboard's files are: open to everyone, for they say nothing of anyone's calls."""

from __future__ import annotations

from typing import Final

DASHBOARD: Final = "/dashboard"
FILES: Final = {
    "dashboard.css": "text/css; charset=utf-8",
    "dashboard.js": "text/javascript; charset=utf-8",
    "charts.js": "text/javascript; charset=utf-8",
    "words.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
PATHS: Final = frozenset({"/", DASHBOARD, *(f"{DASHBOARD}/{name}" for name in FILES)})
