"""Text before it reaches a model: checks, splitting into chunks, normalisation to its spoken form."""
