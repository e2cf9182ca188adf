"""Voices: recordings to saved states, their cache, their names."""
