"""What entropy is doing: pure statistics of one step and of a run."""
