"""`warmline demo`, as a newcomer runs it."""

from __future__ import annotations

from pathlib import Path

import psutil

from tests.cli.conftest import SAMPLES, Warmline
from tests.servers import require_server
from warmline.calls.report import Report
from warmline.local.seaweedfs import seaweedfs_binary
from warmline.local.valkey import valkey_binary


def test_the_demo_scores_every_sample_and_leaves_no_process_behind(warmline: Warmline, tmp_path: Path) -> None:
    require_server(valkey_binary)
    require_server(seaweedfs_binary)
    # When the demo runs in a directory of its own
    data = tmp_path / "demo"
    done = warmline("demo", "--data", data)
    # Then it shows every sample and says where the reports are
    assert done.returncode == 0, done.stderr
    for sample in SAMPLES:
        assert sample.name in done.stdout
    assert f"{len(SAMPLES)} of {len(SAMPLES)} calls scored" in done.stdout
    assert "s3://reports/" in done.stdout
    reports = [Report.model_validate_json(path.read_text()) for path in (data / "reports").glob("*.json")]
    assert len(reports) == len(SAMPLES)
    assert any(channel.windows for report in reports for channel in report.channels)
    # And nothing that it started is still there
    left = [
        process.info["cmdline"]
        for process in psutil.process_iter(["cmdline"])
        if any(str(data) in part for part in process.info["cmdline"] or ())
    ]
    assert left == []
