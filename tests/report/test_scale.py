import pytest

from entropo_plugin.report.words import count, number


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (1.5, "1.5"), (-0.01234, "\u22120.0123"), (12500, "12\u202f500"), (3.14159, "3.14"), (2e-6, "2.00e-06")],
)
def test_numbers_read_well(value, shown):
    assert number(value) == shown


def test_counts_have_their_thousands_spaced():
    assert count(100_000) == "100\u202f000"
