"""How numbers are written."""


def number(value):
    if value is None:
        return "cannot"
    if value >= 1000:
        return "{:,.0f}".format(value)
    return "%.3g" % value if value else "0"
