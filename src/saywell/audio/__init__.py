"""Sound: joined (stitch), judged (verdict), resampled, encoded for a client, and decoded from one (in a sandbox)."""
