"""Results as a Markdown table: what ours loses first."""
from figure_text import number


def ratio(row):
    """Ours to stock's; nothing where one of them could not be measured."""
    stock, ours = row["stock"], row["ours"]
    return ours / stock if stock and ours is not None else None


def worse(row):
    """How many times worse ours is than stock, to sort by."""
    found = ratio(row)
    if found is None:
        return 0.0
    return found if row["better"] == "less" else 1 / found if found else float("inf")


def value(row, side):
    """The median, and in brackets the least and the greatest where they differ."""
    text, spread = number(row[side]), row.get("spread", {}).get(side)
    if spread and number(spread[0]) != number(spread[1]):
        text += " (%s to %s)" % (number(spread[0]), number(spread[1]))
    return text


def line(row):
    unit = " " + row["unit"] if row["unit"] else ""
    return "%s: stock %s%s, ours %s%s" % (row["what"], value(row, "stock"), unit, value(row, "ours"), unit)


def experiments_of(results):
    import experiments
    return [(name, experiments.ALL[name], results[name]) for name in experiments.ALL if name in results]


def markdown(results):
    machine = results["machine"]
    text = "%s, %d cores; %s; %s\n" % (machine["cpu"], machine["cores"], machine["kamailio"], machine["system"])
    for _, experiment, found in experiments_of(results):
        runs = found["runs"]
        text += ("\n### %s\n\n%s; %s\n\n| | unit | stock | ours | ours : stock |\n|---|---|---|---|---|\n"
                 % (" ".join(experiment.__doc__.split()), found.get("build", ""),
                    "one run" if runs == 1 else "%d runs: the median (the least to the greatest)" % runs))
        # What is lost comes first; the rest stays in its order.
        rows = found["rows"]
        lost = sorted((row for row in rows if worse(row) > 1), key=worse, reverse=True)
        for row in lost + [row for row in rows if worse(row) <= 1]:
            found_ratio = ratio(row)
            text += ("| %s | %s | %s | %s | %s |\n"
                     % (row["what"], row["unit"], value(row, "stock"), value(row, "ours"),
                        "" if found_ratio is None else "%.2f" % found_ratio))
        text += "".join("\n%s\n" % note for note in sorted({row.get("note", "") for row in rows} - {""}))
    return text
