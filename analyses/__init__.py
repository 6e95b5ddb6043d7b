"""The paper's experiments and ours, one short runnable recipe each; see figures/README.md for what they drew."""
