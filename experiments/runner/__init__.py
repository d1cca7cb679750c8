"""Running what is not finished of an experiment."""
