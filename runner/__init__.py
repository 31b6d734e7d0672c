"""The conductor: the command line, sweeps, trials and MLflow."""
