"""Model families, one folder each. The folder's name is the family's id."""
