"""A published DualAR checkpoint to what the runtimes load."""
