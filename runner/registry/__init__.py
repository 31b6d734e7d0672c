"""Uses MLflow's registry: packages models, promotes a champion, finds models by name."""
