"""Audio: stitching, checks of generated audio, resampling, encoding for clients, sandboxed decoding of uploads."""
