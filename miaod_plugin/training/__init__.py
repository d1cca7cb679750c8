"""Training: the loop, its batches, and the file from which it goes on."""
