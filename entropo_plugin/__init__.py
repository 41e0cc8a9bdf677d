"""Entropy control for reinforcement learning of language models, as a plugin for verl."""

__version__ = "0.1.0"
