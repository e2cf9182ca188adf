"""What `saywell bench` runs: one module each, `main(args) -> int`; a table for people, one JSON line at the end."""
