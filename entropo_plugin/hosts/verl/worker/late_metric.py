"""A metric of verl's that fetches its numbers from the device when the mini-batch is done, all at once."""

from __future__ import annotations

from typing import Any

import torch
from verl.utils.metric import AggregationType, Metric


class LateMetric(Metric):
    """verl's ``Metric`` takes ``.item()`` of every value: one wait for the device per number and micro-batch."""

    def __init__(self, aggregation: str | AggregationType, value: Any = None) -> None:
        self._late: list[Any] = []
        super().__init__(aggregation, value)

    @property
    def values(self) -> list[float]:
        """The numbers on the host."""
        waiting = [place for place, value in enumerate(self._late) if isinstance(value, torch.Tensor)]
        if waiting:
            numbers = torch.stack([self._late[place].double() for place in waiting]).tolist()
            for place, number in zip(waiting, numbers, strict=True):
                self._late[place] = number
        return self._late

    @values.setter
    def values(self, values: list[Any]) -> None:
        self._late = list(values)

    def append(self, value: Any) -> None:
        """Keep a number, a scalar tensor as it is, or all of another metric."""
        if isinstance(value, Metric):
            self._late += value._late if isinstance(value, LateMetric) else value.values
        else:
            self._late.append(value.detach() if isinstance(value, torch.Tensor) else value)

    def init_list(self) -> LateMetric:
        """An empty one of the same kind."""
        return LateMetric(self.aggregation)

    def __reduce__(self) -> Any:
        """Between processes it travels as verl's own, with numbers."""
        return _plain, (self.aggregation, self.values)


def _plain(aggregation: AggregationType, values: list[Any]) -> Metric:
    metric = Metric(aggregation)
    metric.extend(values)
    return metric
