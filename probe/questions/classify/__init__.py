"""The question `classify`."""
