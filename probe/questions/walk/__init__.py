"""The question `walk`."""
