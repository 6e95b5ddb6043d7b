"""The question `insert`."""
