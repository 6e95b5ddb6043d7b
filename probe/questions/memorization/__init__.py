"""The question `memorization`."""
