"""The question `ablate`."""
