"""The question `dissect`."""
