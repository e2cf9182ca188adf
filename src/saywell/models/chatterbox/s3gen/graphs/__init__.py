"""The graphs of S3Gen's decoder, node by node."""
