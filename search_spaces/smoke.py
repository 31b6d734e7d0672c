"""Does the whole path work?

Two losses, a network of 1 channel, two epochs of a few small pairs: 2 trials, about a minute on two cores,
most of it starting processes. The figures mean nothing; that every checkpoint has a score is the result.
"""

from ray import tune

from search_spaces.sweep import Sweep

SMALL = {
    "network": {"channels": 1, "dim": 32},
    "data": {"crop_size": 96, "held_out": 2, "pairs_per_epoch": 16, "max_shorter_side": 512},
    "optimiser": {"learning_rate": 3e-3},
    "pairs_per_worker": 4,
    "epochs": 2,
}

sweep = Sweep(space={**SMALL, "loss": {"similarity": tune.grid_search(["cosine", "dice"])}}, samples=True)
