"""The folder of a run and the data of an experiment: what is written, read and checked."""
