"""Published weights: which there are, under which licence; download and verify."""
