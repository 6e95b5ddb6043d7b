"""The question `turn`."""
