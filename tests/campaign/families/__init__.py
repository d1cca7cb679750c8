"""The families of the campaign: a module each, with a `Family` that makes the good input and then damages it."""

FAMILIES = (*("experiment_files", "overrides", "split_files", "parameters", "half_trained", "archives", "downloads"),)
