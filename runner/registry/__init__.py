"""MLflow's registry: model packages, the promotion of a champion, names of models."""
