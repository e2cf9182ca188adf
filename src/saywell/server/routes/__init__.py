"""One small file per group of routes. Routes only translate."""
