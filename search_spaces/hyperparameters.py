"""Which hyperparameters does each loss need?

Optuna suggests up to 40 trials of up to 9 epochs; ASHA stops the worse ones after 1 and 3 epochs by their
score on the validation benchmark. Expect the learning rate to matter most and kappa only with HardNet.
"""

from functools import partial

from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from r2d2.losses.reliability import RELIABILITY_LOSSES
from search_spaces.sweep import Sweep

sweep = Sweep(
    space={
        "optimiser": {
            "learning_rate": tune.loguniform(1e-5, 1e-2),
            "weight_decay": tune.loguniform(1e-6, 1e-2),
        },
        "loss": {
            "reliability": tune.choice(sorted(RELIABILITY_LOSSES)),
            "weight_reliability": tune.loguniform(0.25, 4.0),
            "weight_similarity": tune.loguniform(0.25, 4.0),
            "weight_peakiness": tune.loguniform(0.25, 4.0),
            "patch_size": tune.choice([8, 16, 32]),
            "kappa": tune.uniform(0.5, 1.5),
        },
        "epochs": 9,
    },
    num_samples=40,
    search_alg=OptunaSearch,
    scheduler=partial(ASHAScheduler, time_attr="epoch", max_t=9, grace_period=1, reduction_factor=3),
)
