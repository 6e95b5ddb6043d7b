"""The question `arithmetic`."""
