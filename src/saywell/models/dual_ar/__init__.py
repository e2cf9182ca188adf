"""DualAR: a slow transformer over frames, a fast one over a frame's codebooks, a causal codec (S1-mini and kin)."""
