"""What a run under verl logs."""
