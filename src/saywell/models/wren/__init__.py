"""wren: the voice that comes with the package. Text → phones → prosody and spectra → samples."""
