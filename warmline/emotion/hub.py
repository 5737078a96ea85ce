"""A model's name: where its directory is, and how it gets there.

`mini` is bundled; `base` and `large`, or any other id of ModelScope, FunASR's hub, have to be pulled first; a
path is taken as it is. Loading never goes to the network: only `pull` does.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import structlog

from warmline.emotion.checkpoint import WEIGHTS_FILE
from warmline.emotion.configuration import CONFIG_FILE
from warmline.emotion.labels import TOKENS_FILE
from warmline.jobs.errors import HubUnavailable, ModelUnusable

MINI_DIRECTORY = Path(__file__).parents[2] / "models" / "mini"
SHORT_NAMES = {"base": "iic/emotion2vec_plus_base", "large": "iic/emotion2vec_plus_large"}
HUB_ID = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.\-]*/[A-Za-z0-9_][A-Za-z0-9_.\-]*$")
HUB_URL = "https://modelscope.cn"
HUB_ANSWER_SECONDS = 10.0

# All that a model directory needs. Whatever else lies on the hub, code above all, is not fetched.
MODEL_FILES = (CONFIG_FILE, TOKENS_FILE, WEIGHTS_FILE, "configuration.json")

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class FoundModel:
    """A model directory that is there."""

    name: str  # for people: "mini", "emotion2vec_plus_large", or the directory's name
    directory: Path
    mini: bool  # the small bundled model
    standard: bool  # one that we know by name, so it has the nine standard labels


def find_model(name: str, models_dir: Path) -> FoundModel:
    """Where the model of this name is. Raises ModelUnusable where it is not, and says how to get it."""
    path = Path(name).expanduser()
    if name == "mini" or path.resolve() == MINI_DIRECTORY.resolve():
        return FoundModel(name="mini", directory=_complete(MINI_DIRECTORY), mini=True, standard=True)
    hub_id = SHORT_NAMES.get(name, name)
    known = hub_id in SHORT_NAMES.values()
    if name and not known and path.is_dir():
        return FoundModel(name=path.resolve().name, directory=_complete(path), mini=False, standard=False)
    if not HUB_ID.match(hub_id):
        raise ModelUnusable(
            f"{name} is neither a model's name (mini, base, large), nor a directory, nor a hub id."
        )
    directory = _pulled(hub_id, models_dir)
    if not directory.is_dir():
        raise ModelUnusable(
            f"The model {name} is not in {models_dir}. Run `warmline model pull {name}` to fetch it,"
            " or set WARMLINE_MODEL to mini or to a model directory."
        )
    return FoundModel(name=hub_id.partition("/")[2], directory=_complete(directory), mini=False, standard=known)


def pull(name: str, models_dir: Path, *, hub_url: str = HUB_URL) -> FoundModel:
    """Fetches a model from ModelScope into `models_dir`; one that is there already is fetched anew.

    An interrupted download goes on where it stopped. Raises HubUnavailable within seconds without a network,
    and ModelUnusable where `name` is not a hub's or the hub has no such model.
    """
    hub_id = SHORT_NAMES.get(name, name)
    if not HUB_ID.match(hub_id):
        raise ModelUnusable(
            f"{name} is no model on the hub: give base, large, or an id such as {SHORT_NAMES['large']}."
        )
    _expect_answer(hub_id, hub_url)
    directory = _pulled(hub_id, models_dir)
    partial = directory.with_name(f".{directory.name}.partial")
    log.info("model_pulling", hub_id=hub_id, directory=str(directory))
    _download(hub_id, partial, hub_url)
    _complete(partial)
    if directory.exists():
        shutil.rmtree(directory)
    partial.rename(directory)  # a directory under its own name is whole
    return find_model(name, models_dir)


def _pulled(hub_id: str, models_dir: Path) -> Path:
    return models_dir / "hub" / hub_id


def _complete(directory: Path) -> Path:
    missing = [name for name in (CONFIG_FILE, TOKENS_FILE, WEIGHTS_FILE) if not (directory / name).is_file()]
    if missing:
        raise ModelUnusable(f"The model directory {directory} lacks {', '.join(missing)}.")
    return directory


def _expect_answer(hub_id: str, hub_url: str) -> None:
    """The hub's client tries again and again for half a minute; a machine without a network is told at once."""
    import httpx

    try:
        httpx.head(hub_url, timeout=HUB_ANSWER_SECONDS)
    except httpx.HTTPError as error:
        raise HubUnavailable(
            f"{hub_url} does not answer ({error}), so {hub_id} cannot be fetched. Check the network, or copy a"
            " model directory here and set WARMLINE_MODEL to its path."
        ) from None


def _download(hub_id: str, directory: Path, hub_url: str) -> None:
    from modelscope.hub.snapshot_download import snapshot_download
    from modelscope_hub.errors import HubError
    from requests import HTTPError, RequestException

    try:
        directory.mkdir(parents=True, exist_ok=True)
        snapshot_download(hub_id, local_dir=str(directory), allow_file_pattern=list(MODEL_FILES), endpoint=hub_url)
    except (HubError, RequestException) as error:
        if isinstance(error, HTTPError) and error.response is not None and error.response.status_code == 404:
            raise ModelUnusable(f"{hub_url} has no model {hub_id}.") from None
        reason = str(error).partition("\n")[0]
        raise HubUnavailable(f"{hub_id} could not be fetched from {hub_url}: {reason}. Try again.") from None
    except OSError as error:
        raise ModelUnusable(f"{hub_id} cannot be kept in {directory}: {error.strerror or error}.") from None
