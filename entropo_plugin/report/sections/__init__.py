"""The chapters of the report: each turns runs into one Section."""

from entropo_plugin.report.sections.accounting import accounting_section
from entropo_plugin.report.sections.coefficients import coefficient_section
from entropo_plugin.report.sections.comparison import comparison_section
from entropo_plugin.report.sections.cost import cost_section
from entropo_plugin.report.sections.law import law_section
from entropo_plugin.report.sections.overview import overview_section
from entropo_plugin.report.sections.passes import pass_section
from entropo_plugin.report.sections.quantiles import quantile_section
from entropo_plugin.report.sections.setup import setup_section
from entropo_plugin.report.sections.tokens import token_section

SECTIONS = [overview_section, coefficient_section, pass_section, token_section, law_section, accounting_section]
SECTIONS += [quantile_section, cost_section, comparison_section, setup_section]

__all__ = ["SECTIONS"]
