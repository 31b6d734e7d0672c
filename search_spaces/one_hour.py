"""How good is a network after one hour of training on two processors?

The recipe that `make bench-quality` trains for the given minutes: Fast-R2D2 of full width from scratch,
HardNet's reliability, windows of 96 pixels, 8 pairs a step, a learning rate that climbs for 50 steps and
falls linearly: 1 trial. Give it a hundred photographs or more (--photos). Expect illumination to be learnt
within minutes and wide viewpoints last.
"""

from search_spaces.sweep import Sweep

sweep = Sweep(
    space={
        "network": {"name": "fast", "channels": 4, "dim": 128},
        "loss": {
            "reliability": "hardnet",
            "kappa": 1.0,
            "anchor_swap": True,
            "similarity": "cosine",
            "border": 8,
        },
        "data": {"crop_size": 96, "pairs_per_epoch": 2048},
        "optimiser": {
            "learning_rate": 3e-3,
            "schedule": "linear",
            "warmup_steps": 50,
            "final_share": 0.05,
        },
        "pairs_per_worker": 8,
        "epochs": 8,
    }
)
