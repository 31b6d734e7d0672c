"""Which similarity makes the most repeatable detector?

Every similarity x three seeds, 5 epochs each, from scratch with the AP reliability: 15 trials with the five
similarities of the study. Expect dice on top by about one point of MMA@3, and intervals over seeds that are
as wide.
"""

from ray import tune

from r2d2.losses.similarity import SIMILARITIES
from search_spaces.sweep import Sweep

sweep = Sweep(
    space={
        "loss": {"similarity": tune.grid_search(sorted(SIMILARITIES))},
        "seed": tune.grid_search([0, 1, 2]),
        "epochs": 5,
    },
    baseline="ap+cosine",
)
