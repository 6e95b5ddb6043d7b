"""The question `dedup`."""
