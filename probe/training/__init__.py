"""Training a DCGAN by the paper's recipe."""
