"""A model's name leads to a directory, or to a sentence that says how to get one."""

from __future__ import annotations

import hashlib
import http.server
import json
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, urlparse

import pytest

from config.settings import EmotionSettings
from tests.model.random_checkpoints import windows, write_random_model
from warmline.emotion.engine import score
from warmline.emotion.hub import MINI_DIRECTORY, find_model, pull
from warmline.emotion.loading import load_engine, open_model
from warmline.jobs.errors import HubUnavailable, ModelUnusable


def test_a_directory_is_taken_as_it_is(tiny: Path, tmp_path: Path) -> None:
    found = find_model(str(tiny), tmp_path)
    assert (found.name, found.directory, found.mini, found.standard) == ("tiny", tiny, False, False)


@pytest.mark.parametrize("name", ["large", "base", "iic/emotion2vec_plus_large", "someone/their-model"])
def test_a_model_that_is_not_pulled_says_how_to_pull_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelUnusable, match=rf"Run `warmline model pull {name}`"):
        find_model(name, tmp_path)


@pytest.mark.parametrize("name", ["", "huge", "/no/such/directory", "a/b/c", "-x/y", "../nowhere"])
def test_a_name_that_is_nothing_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelUnusable, match="neither a model's name"):
        find_model(name, tmp_path / "models")


def test_a_short_name_and_a_hub_id_are_the_same_model(tiny: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(tiny, tmp_path / "hub" / "iic" / "emotion2vec_plus_large"))
    for name in ("large", "iic/emotion2vec_plus_large"):
        found = find_model(name, tmp_path)
        assert (found.name, found.directory, found.standard) == ("emotion2vec_plus_large", directory, True)


@pytest.mark.parametrize("missing", ["config.yaml", "tokens.txt", "model.pt"])
def test_an_incomplete_directory_names_what_it_lacks(tiny: Path, tmp_path: Path, missing: str) -> None:
    directory = Path(shutil.copytree(tiny, tmp_path / "m"))
    (directory / missing).unlink()
    with pytest.raises(ModelUnusable, match=f"lacks {missing}"):
        find_model(str(directory), tmp_path)


def test_the_bundled_model_is_known_by_its_name_and_by_its_path(tmp_path: Path) -> None:
    for name in ("mini", str(MINI_DIRECTORY)):
        found = find_model(name, tmp_path)
        assert (found.name, found.mini, found.standard) == ("mini", True, True)


def test_a_model_that_we_know_must_have_the_standard_labels(tmp_path: Path) -> None:
    directory = tmp_path / "hub" / "iic" / "emotion2vec_plus_base"
    write_random_model(directory, "tiny", tokens="happy\nsad\n<unk>\n")
    with pytest.raises(ModelUnusable, match="names the labels happy, sad, unknown, but emotion2vec_plus_base has"):
        open_model("base", tmp_path)
    # A directory of one's own may have any
    assert open_model(str(directory), tmp_path).labels.names == ("happy", "sad", "unknown")


def test_without_a_network_pulling_fails_at_once_with_a_sentence(tmp_path: Path) -> None:
    with socket.socket() as nobody:  # bound, so that nobody else listens there
        nobody.bind(("127.0.0.1", 0))
        started = time.monotonic()
        with pytest.raises(HubUnavailable, match=r"does not answer .* set WARMLINE_MODEL to its path"):
            pull("large", tmp_path, hub_url=f"http://127.0.0.1:{nobody.getsockname()[1]}")
    assert time.monotonic() - started < 60
    assert not (tmp_path / "hub").exists()


@pytest.mark.parametrize("name", ["mini", "/a/directory", "huge"])
def test_only_hub_models_can_be_pulled(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelUnusable, match="is no model on the hub"):
        pull(name, tmp_path)


class Hub(http.server.BaseHTTPRequestHandler):
    """The two requests of ModelScope's client: what files there are, and one file."""

    protocol_version = "HTTP/1.1"
    files: ClassVar[dict[str, bytes]] = {}
    fetched: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        url = urlparse(self.path)
        status, body = 404, b"{}"
        if url.path == "/api/v1/models/iic/emotion2vec_plus_base/repo/files":
            files = [
                {"Name": name, "Path": name, "Type": "blob", "Size": len(content), "Revision": "0" * 40,
                 "Sha256": hashlib.sha256(content).hexdigest()}
                for name, content in self.files.items()
            ]  # fmt: skip
            status, body = 200, json.dumps({"Code": 200, "Data": {"Files": files}}).encode()
        elif url.path == "/api/v1/models/iic/emotion2vec_plus_base/repo":
            name = parse_qs(url.query)["FilePath"][0]
            self.fetched.append(name)
            status, body = 200, self.files[name]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 (the name that http.server looks for)

    def log_message(self, *_: object) -> None:
        """Nothing: the requests are not what a test's output should show."""


@pytest.fixture
def hub(tiny: Path) -> Iterator[str]:
    """The address of a hub that has the tiny model as iic/emotion2vec_plus_base, and some code beside it."""
    Hub.files = {path.name: path.read_bytes() for path in tiny.iterdir()} | {"model.py": b"raise SystemExit"}
    Hub.fetched = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_pulled_model_can_be_loaded_and_holds_no_code(hub: str, tmp_path: Path) -> None:
    found = pull("base", tmp_path, hub_url=hub)
    assert found.name == "emotion2vec_plus_base"
    assert sorted(Hub.fetched) == ["config.yaml", "model.pt", "tokens.txt"]
    assert not list(tmp_path.rglob("*.py"))
    settings = EmotionSettings(model="base", models_dir=tmp_path, device="cpu")
    assert score(load_engine(settings, threads=1), windows((8_000,))).shape == (1, 9)
    # and again, when it is there already
    assert pull("base", tmp_path, hub_url=hub) == found


def test_a_model_that_the_hub_has_not_is_named(hub: str, tmp_path: Path) -> None:
    with pytest.raises(ModelUnusable, match="has no model nobody/nothing"):
        pull("nobody/nothing", tmp_path, hub_url=hub)
