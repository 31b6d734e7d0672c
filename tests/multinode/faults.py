"""Does a sweep survive what clusters do?

One trial with one worker, one with two: small, with epochs long enough to be disturbed in their middle.
"""

from search_spaces.sweep import Sweep

TINY = {
    "network": {"channels": 1, "dim": 16},
    "data": {"crop_size": 64, "held_out": 1, "pairs_per_epoch": 96, "max_shorter_side": 320},
    "optimiser": {"learning_rate": 3e-3},
    "pairs_per_worker": 4,
    "epochs": 2,
}

sweep = Sweep(
    samples=True,
    space=[
        {**TINY, "loss": {"similarity": "dice"}},
        {**TINY, "pairs_per_worker": 2, "num_workers": 2},
    ],
    starting_networks=False,
)
