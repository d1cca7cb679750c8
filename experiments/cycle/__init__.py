"""One cycle of active learning."""
