"""S3Gen's decoder: speech tokens → mel spectrogram (flow matching) → samples (HiFT vocoder)."""
