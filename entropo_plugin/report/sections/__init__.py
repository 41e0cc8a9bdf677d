"""The chapters of the report: each turns runs into one Section."""

from collections.abc import Callable

from entropo_plugin.report.figure import Section
from entropo_plugin.report.runs import Run
from entropo_plugin.report.sections.accounting import accounting_section
from entropo_plugin.report.sections.comparison import comparison_section
from entropo_plugin.report.sections.entropy import entropy_section
from entropo_plugin.report.sections.law import law_section
from entropo_plugin.report.sections.passes import pass_section
from entropo_plugin.report.sections.quantiles import quantile_section
from entropo_plugin.report.sections.reward import reward_section
from entropo_plugin.report.sections.tokens import token_section

SECTIONS: tuple[Callable[[list[Run]], Section], ...] = (
    entropy_section,
    reward_section,
    pass_section,
    law_section,
    accounting_section,
    quantile_section,
    token_section,
    comparison_section,
)

__all__ = ["SECTIONS"]
