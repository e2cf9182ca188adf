"""Published weights: catalogue, download and verification."""
