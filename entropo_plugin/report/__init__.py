"""Reads finished or running runs and draws them."""

from entropo_plugin.report.command import add_arguments, main, run

__all__ = ["add_arguments", "main", "run"]
