"""Does a sweep of small trials survive whatever happens to it?

Two trials of one worker and one of two, two epochs each, beside the network that they start from.
"""

from search_spaces.sweep import Sweep

TINY = {
    "network": {"channels": 1, "dim": 16},
    "data": {"crop_size": 64, "held_out": 1, "pairs_per_epoch": 32, "max_shorter_side": 320},
    "optimiser": {"learning_rate": 3e-3},
    "pairs_per_worker": 4,
    "epochs": 2,
}

sweep = Sweep(
    samples=True,
    space=[
        {**TINY, "loss": {"similarity": "dice"}},
        {**TINY, "loss": {"reliability": "hardnet"}},
        {**TINY, "pairs_per_worker": 2, "num_workers": 2},
    ],
)
