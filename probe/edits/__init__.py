"""What changes a generator."""
