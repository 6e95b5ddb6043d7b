"""The paper's experiments and ours, one short runnable recipe each; figures/ holds what they drew."""
