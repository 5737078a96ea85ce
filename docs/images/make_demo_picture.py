"""Draws docs/images/demo.svg from the reports that `make demo` left: python docs/images/make_demo_picture.py

The picture is the demo's own table with the demo's own figures; nothing in it is drawn by hand.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

from rich.console import Console

from warmline.calls.report import Report
from warmline.cli.tables import calls_table

ROOT = Path(__file__).parents[2]


def main() -> None:
    """Reads the reports and writes the picture."""
    files = sorted((ROOT / ".warmline" / "demo" / "reports").glob("*.json"))
    if not files:
        raise SystemExit("there are no reports yet: run make demo first")
    reports = [(path.name.removesuffix(".json"), Report.model_validate_json(path.read_text())) for path in files]
    console = Console(record=True, width=124, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print("$ make demo", style="bold")
    console.print(calls_table(reports, console.width))
    picture = console.export_svg(title="Warmline")
    # A page must not fetch fonts from elsewhere to show it: any monospaced font does.
    picture = re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)
    (Path(__file__).parent / "demo.svg").write_text(picture)


if __name__ == "__main__":
    main()
