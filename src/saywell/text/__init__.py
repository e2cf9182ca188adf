"""Text on its way to a model: checked, cut into chunks, and written out as it is spoken."""
