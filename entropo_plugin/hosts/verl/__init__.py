"""The bridge to verl: the only package that imports it."""
