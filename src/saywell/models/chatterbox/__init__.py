"""Chatterbox: text → speech tokens (`t3`), speech tokens → samples (`s3gen`), and the voice of a recording."""
