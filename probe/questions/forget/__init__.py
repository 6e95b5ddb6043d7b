"""The question `forget`."""
