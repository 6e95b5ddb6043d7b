"""Procedural bedrooms with exact masks and attributes."""
