"""Images: their sources, preparation and cache, lists of those left out, and the procedural bedrooms."""
