"""The engine in a worker process, and its client."""
