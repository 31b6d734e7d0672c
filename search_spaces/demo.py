"""Which loss makes the better feature, seen in a few minutes on a laptop?

Three similarities with the AP reliability and the cosine with HardNet, a network of 1 channel from scratch on
sample photographs: 4 trials, four to eight minutes on two cores. Expect every variant far above the untrained
network, and differences between variants that one seed and three photographs cannot establish.
"""

from ray import tune

from search_spaces.sweep import Sweep

_SMALL = {
    "network": {"channels": 1, "dim": 32},
    "data": {"crop_size": 96, "held_out": 3, "pairs_per_epoch": 256, "max_shorter_side": 512},
    "optimiser": {"learning_rate": 3e-3},
    "pairs_per_worker": 4,
    "epochs": 2,
}

sweep = Sweep(
    space=[
        # With kappa 0.5 HardNet's reliability falls to 0 when it starts from scratch (docs/experiments.md).
        {**_SMALL, "loss": {"similarity": tune.grid_search(["cosine", "dice", "jaccard"]), "kappa": 1.0}},
        {**_SMALL, "loss": {"reliability": "hardnet", "kappa": 1.0}},
    ],
    baseline="ap+cosine",
    samples=True,
)
