"""Everything that is written to MLflow: experiments, runs, figures, tables."""
