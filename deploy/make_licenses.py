"""Writes docs/licenses.md: what Warmline brings along, what it depends on when it runs, and under which licences.

`make licenses` runs it. It ends with an error over a licence that nobody has looked at: see ALLOWED and LOOKED_AT.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from installed import closure
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
HEAD = ROOT / "deploy" / "licenses.head.md"
PAGE = ROOT / "docs" / "licenses.md"

# The extras of each part; `local` is the one-machine stack's servers, and the rest is for one feature each.
PARTS = {
    "api": ("api", "tracing", "pictures", "flower"),
    "worker": ("worker", "export", "tracing"),
    "stack": ("local",),
    "others": ("diarise", "quantize"),
}
# As packages say it, in SPDX's words or older ones. Under all of these one may use and ship the package unchanged.
ALLOWED = {
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "CNRI-Python", "ISC",
    "LGPL-2.1-or-later", "MIT", "MIT-0", "MPL-2.0", "PSF-2.0", "Unlicense", "Zlib", "BSD",
}  # fmt: skip
SAME = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0 License": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "BSD-derived (http://www.repoze.org/LICENSE.txt)": "BSD",
    "Apache-2.0 WITH LLVM-exception": "Apache-2.0",
}
# What does not say it in its metadata, or not all of it: read in the licence files that are installed with it.
LOOKED_AT = {
    "resvg-py": "MIT",
    "tiktoken": "MIT",
}
# Not free to use for everybody: each has its reason to be here, and its paragraph at the head of the page.
KNOWN_EXCEPTIONS = {"kaldiio": "NTT's licence for evaluation"}
# The CUDA build of torch brings NVIDIA's own libraries; the page speaks of them, and no other build has them.
OF_CUDA = ("nvidia-", "cuda-", "triton")


def licences() -> dict[str, str]:
    """Package -> its licence as it says itself, of all that is installed here."""
    command = [sys.executable, "-m", "piplicenses", "--format=json", "--from=mixed", "--with-system"]
    rows = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return {canonicalize_name(row["Name"]): row["License"] for row in rows}


def spdx(name: str, said: str) -> str:
    """A package's licence in one form. Raises SystemExit where it is not one that was looked at."""
    if name in KNOWN_EXCEPTIONS:
        return KNOWN_EXCEPTIONS[name]
    said = LOOKED_AT.get(name, said)
    parts = re.split(r"\s*;\s*|\s+(AND|OR)\s+", said)
    told = [part if part in {"AND", "OR"} else SAME.get(part, part) for part in parts if part]
    unknown = {part for part in told if part not in {"AND", "OR"}} - ALLOWED
    if unknown or not told:
        raise SystemExit(f"{name}: its licence {', '.join(unknown) or 'is unknown'}; see deploy/make_licenses.py")
    words = [part for part in dict.fromkeys(told) if part not in {"AND", "OR"}]
    return f" {'AND' if 'AND' in told else 'OR'} ".join(words)


def page() -> str:
    """The page. Raises SystemExit as `spdx` does."""
    found = licences()
    parts = {part: closure(extras) for part, extras in PARTS.items()}
    names = sorted({name for packages in parts.values() for name in packages if not name.startswith(OF_CUDA)})
    rows = []
    for name in names:
        used_by = ", ".join(part for part, packages in parts.items() if name in packages)
        rows.append(f"| {name} | {spdx(name, found.get(name, ''))} | {used_by} |")
    table = "\n".join(["| package | licence | needed by |", "|---|---|---|", *rows])
    return f"{HEAD.read_text().rstrip()}\n\n## What it depends on\n\n{_ABOUT}\n\n{table}\n"


_ABOUT = (
    "pip installs these; none of them is in this repository. `api`: the API, `warmline-sqs`, Flower, traces.\n"
    "`worker`: scoring, exports. `stack`: the servers of `warmline up`. `others`: `split_speakers` and\n"
    "`warmline model quantize`."
)

if __name__ == "__main__":
    made = page()
    if "--check" in sys.argv[1:]:
        if PAGE.read_text() != made:
            raise SystemExit(f"{PAGE.relative_to(ROOT)} is not up to date: run `make licenses`")
    else:
        PAGE.write_text(made)
