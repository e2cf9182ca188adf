"""DualAR a second time, in plain NumPy: what tests hold the graphs against."""
