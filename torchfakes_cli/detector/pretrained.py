"""Public weights that training can start from, fetched once into the user's cache. Only tensors are unpickled."""

from __future__ import annotations

import os
import pickle

import torch
from torch import Tensor, nn

from torchfakes_cli.detector.fetch import FIRST_WAIT_S, cache_folder, fetch, record_checksum
from torchfakes_cli.detector.network import portable_state
from torchfakes_cli.errors import CheckpointError

#: facenet-pytorch's release of InceptionResnetV1 trained to tell the people of VGGFace2 apart.
VGGFACE2_URL = "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/20180402-114759-vggface2.pt"
#: Environment variable that names another place to fetch it from (a mirror inside a closed network).
VGGFACE2_VARIABLE = "TORCHFAKES_VGGFACE2_URL"


def load_vggface2(network: nn.Module) -> None:
    """Put the VGGFace2 weights into a network; its last layer, the logit, stays random.

    Raises:
        DownloadError: they can't be fetched or don't match the recorded checksum.
        CheckpointError: the file isn't what it should be.
    """
    url = os.environ.get(VGGFACE2_VARIABLE, VGGFACE2_URL)
    path = fetch(url, cache_folder(), first_wait_s=FIRST_WAIT_S, otherwise="train with --from scratch")
    advice = f"Delete it and try again: {path}"
    try:
        state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError("is no file of weights", path=path, advice=advice) from error
    if not isinstance(state, dict):
        raise CheckpointError("holds no table of weights", path=path, advice=advice)
    own = {name: tensor for name, tensor in portable_state(network).items() if not name.startswith("logits.")}
    differing = [name for name in own if name not in state or state[name].shape != own[name].shape]
    if differing:
        cause = f"lacks {len(differing)} of the network's tensors ({', '.join(differing[:3])})"
        raise CheckpointError(cause, path=path, advice=advice)
    network.load_state_dict({name: state[name] for name in own}, strict=False)
    record_checksum(path)
