"""Voices: states of recordings, their caches, voices saved under names, and aliases of voices."""
