"""Data and reward functions for verl."""
