"""The judge: a model in, a table out."""
