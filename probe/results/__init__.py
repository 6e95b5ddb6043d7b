"""Results on disk: provenance, captions, comparison, tables, HTML."""
