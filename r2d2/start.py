"""Makes the network that a training starts from."""

from __future__ import annotations

from pathlib import Path

from r2d2.checkpoint import load_model
from r2d2.config import SCRATCH, TrainConfig
from r2d2.network import R2D2Network, build_network
from r2d2.storage.cache import CacheSettings


def starting_network(
    config: TrainConfig, init: str | Path, cache: CacheSettings | None = None
) -> R2D2Network:
    """Makes a network of random weights by seed, or of those of a model to fine-tune.

    Args:
        config: `config.init` says which of the two.
        init: where the model lies that `config.init` names; not looked at for a start from scratch.
        cache: where a model on S3 is kept on this node; None: a temporary one.

    Raises:
        ValueError: if the model cannot be read, or its architecture is not the configured one.
    """
    if config.init == SCRATCH:
        return build_network(config.network, seed=config.seed)
    network = load_model(init, cache).network
    if network.config != config.network:
        raise ValueError(
            f"init is {init}, a network {network.config}, but the configuration asks for {config.network}; "
            "set network.name, network.channels and network.dim to those of the model"
        )
    return network
