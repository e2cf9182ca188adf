"""What the engine does when memory, heat or other programs press."""
