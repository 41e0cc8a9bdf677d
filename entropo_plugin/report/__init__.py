"""Reads finished or running runs and draws them."""
