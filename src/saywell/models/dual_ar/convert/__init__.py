"""Converts published DualAR checkpoints into models."""
