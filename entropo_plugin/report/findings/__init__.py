"""What the numbers say, in plain language: one sentence a finding, the gravest first."""

from __future__ import annotations

from entropo_plugin.report.findings.entropy import bound, course, tracking
from entropo_plugin.report.findings.finding import ORDER, Finding
from entropo_plugin.report.findings.numbers import fault, gaps, not_finite, stopped
from entropo_plugin.report.findings.parting import floor, parting
from entropo_plugin.report.findings.scores import diversity, lengths, reward, right_answers
from entropo_plugin.report.run import Run

__all__ = ["Finding", "findings"]

# In the order in which findings of one mood are shown: numbers that cannot be believed come first.
OF_A_RUN = (not_finite, fault, course, tracking, bound, floor, right_answers, diversity, gaps, stopped)
OF_ALL = (lengths, reward, parting)


def findings(runs: list[Run]) -> list[Finding]:
    """All findings over all runs."""
    said = [finding for look in OF_A_RUN for run in runs for finding in look(run)]
    said += [finding for look in OF_ALL for finding in look(runs)]
    return sorted(said, key=lambda finding: ORDER[finding.mood])
