"""How the voices of this repository are made. Not part of the package; needs `pip install -e '.[test]'` and Flite."""
