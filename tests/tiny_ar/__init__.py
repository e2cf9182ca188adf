"""A tiny autoregressive family for tests."""
