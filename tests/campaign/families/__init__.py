"""The families of the campaign: a module each, with a `Family` that makes the good input and then damages it."""

FAMILIES = (
    *("images", "voc", "coco", "annotations", "experiment_files", "overrides", "split_files", "targets", "parameters"),
    *("writers", "models", "half_trained", "run_folders", "archives", "downloads", "commands"),
)
