"""The question `sample`."""
