"""The bridge to TRL: ``EntropoGRPOTrainer`` and ``EntropoGRPOConfig`` in place of GRPOTrainer and GRPOConfig."""

from entropo_plugin.hosts.trl.config import EntropoGRPOConfig
from entropo_plugin.hosts.trl.trainer import EntropoGRPOTrainer, EntropoMixin

__all__ = ["EntropoGRPOConfig", "EntropoGRPOTrainer", "EntropoMixin"]
