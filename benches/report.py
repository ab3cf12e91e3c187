"""Results as a Markdown table."""
from figure_text import number


def ratio(row):
    stock, ours = row["stock"], row["ours"]
    return "%.2f" % (ours / stock) if stock and ours is not None else ""


def line(row):
    unit = " " + row["unit"] if row["unit"] else ""
    return "%s: stock %s%s, ours %s%s" % (row["what"], number(row["stock"]), unit, number(row["ours"]), unit)


def experiments_of(results):
    import experiments
    return [(name, experiments.ALL[name], results[name]) for name in experiments.ALL if name in results]


def markdown(results):
    machine = results["machine"]
    text = "%s, %d cores; %s; %s\n" % (machine["cpu"], machine["cores"], machine["kamailio"], machine["system"])
    for _, experiment, found in experiments_of(results):
        text += ("\n### %s\n\n%s\n\n| | unit | stock | ours | ours : stock |\n|---|---|---|---|---|\n"
                 % (experiment.__doc__.split("\n")[0], found.get("build", "")))
        for row in found["rows"]:
            text += ("| %s | %s | %s | %s | %s |\n"
                     % (row["what"], row["unit"], number(row["stock"]), number(row["ours"]), ratio(row)))
    return text
