"""The question `evaluate`."""
