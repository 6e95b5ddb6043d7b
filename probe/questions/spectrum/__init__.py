"""The question `spectrum`."""
