"""The questions of the DCGAN paper, a folder each."""
