"""Times the candidates of a plan on this machine."""
