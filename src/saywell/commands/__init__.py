"""What the command line does, one module a command; each is imported when its command runs."""
