"""Everything that a checkpoint allows, as one page."""
