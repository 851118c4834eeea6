"""The originals of the model assets on the Hugging Face hub, for those who reach it and prefer them.

Their weights differ from the pinned ones, which were dequantised: what was trained on one runs a little off on the
other. The manifest records repository and revision. The hub client's own settings hold (HF_ENDPOINT, HF_TOKEN, proxy).
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ffaa.assets import convert
from ffaa.assets.store import Origin
from ffaa.assets.table import Asset
from ffaa.types import InputError

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

_SAFE = "model.safetensors"
_PICKLE = "pytorch_model.bin"
_SIDE_FILES = {
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "vocab.json", "vocab.txt", "merges.txt", "chat_template.jinja", "modules.json", "sentence_bert_config.json",
    "config_sentence_transformers.json", "1_Pooling/config.json", "README.md",
}  # fmt: skip


def make(asset: Asset, shop: Path) -> tuple[Path, Origin]:
    """Download the original and lay it out as the converted asset is; its folder inside ``shop`` and its origin.

    Raises:
        InputError: the asset is not on the hub, or the hub cannot be reached.
    """
    if asset.hub_id is None:
        raise InputError(f"asset {asset.name} is not on the hub; leave out --from hub")
    snapshot = _download(asset, asset.hub_id, shop / "hub")
    made = shop / "made"
    made.mkdir()
    if asset.conversion == "clip_vision_tower":
        convert.write_clip(_vision_weights(snapshot), made)
    else:
        for file in sorted(path for path in snapshot.rglob("*") if path.is_file()):
            target = made / file.relative_to(snapshot)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    logger.warning("%s: taken from the hub, its weights differ from the pinned ones", asset.name)
    return made, Origin("hub", {"hub_id": asset.hub_id, "revision": snapshot.name})


@contextmanager
def hub_failures(what: str, advice: str = "") -> Iterator[None]:
    """What the hub's client raises inside comes out as InputError ``<what> (<reason>)<advice>``, a line.

    An OSError of this machine is left as it is: it has a number, and is not of a connection.
    """
    from huggingface_hub.errors import HfHubHTTPError

    # The client's own error derives from that of the HTTP library it happens to use; both may come out of it.
    transport_error: type[BaseException] = HfHubHTTPError.__bases__[0]
    try:
        yield
    except (OSError, transport_error) as error:
        is_of_network = isinstance(error, ConnectionError | TimeoutError)
        if isinstance(error, OSError) and error.errno is not None and not is_of_network:
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{what} ({reason}){advice}") from error


def _download(asset: Asset, hub_id: str, cache: Path) -> Path:
    """Snapshot folder, named by its commit, with the weights in one format and the files beside them."""
    try:
        from huggingface_hub import HfApi, snapshot_download
    except ImportError as error:
        raise InputError(f"asset {asset.name}: --from hub needs the package huggingface_hub") from error

    logger.info("%s: downloading %s from the hub", asset.name, hub_id)
    advice = "; check network, proxy and HF_ENDPOINT, or leave out --from hub to take it from the package registry"
    with hub_failures(f"asset {asset.name}: could not get {hub_id} from the hub", advice):
        names = set(HfApi().list_repo_files(hub_id))
        weights = _SAFE if _SAFE in names else _PICKLE
        patterns = [*sorted(names & _SIDE_FILES), weights]
        return Path(snapshot_download(hub_id, allow_patterns=patterns, cache_dir=cache))


def _vision_weights(snapshot: Path) -> Mapping[str, torch.Tensor]:
    """The image tower's tensors, float32, out of a whole CLIP checkpoint."""
    import torch
    from safetensors.torch import load_file

    safe = snapshot / _SAFE
    tensors = load_file(safe) if safe.is_file() else torch.load(snapshot / _PICKLE, "cpu", weights_only=True)
    return {name: tensor.float() for name, tensor in tensors.items() if name.startswith("vision_model.")}
