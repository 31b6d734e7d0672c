"""Is any combination of reliability loss, similarity and start better than the others?

Every reliability x every similarity x scratch or fine-tuned x three seeds, 5 epochs each: 60 trials with
the five similarities of the study. Needs the released network: --released PATH. Expect the start to matter
more than the loss.
"""

from ray import tune

from r2d2.config import SCRATCH
from r2d2.losses.reliability import RELIABILITY_LOSSES
from r2d2.losses.similarity import SIMILARITIES
from search_spaces.sweep import RELEASED, Sweep

sweep = Sweep(
    space={
        "loss": {
            "reliability": tune.grid_search(sorted(RELIABILITY_LOSSES)),
            "similarity": tune.grid_search(sorted(SIMILARITIES)),
            # With 0.5 HardNet's reliability falls to 0 when it starts from scratch (docs/experiments.md).
            "kappa": 1.0,
        },
        "init": tune.grid_search([SCRATCH, RELEASED]),
        "seed": tune.grid_search([0, 1, 2]),
        "epochs": 5,
    },
    baseline="ap+cosine",
)
