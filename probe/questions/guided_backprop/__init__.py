"""The question `guided-backprop`."""
