"""Results as a Markdown table and as a plot."""


def number(value):
    if value is None:
        return "cannot"
    if value >= 1000:
        return "{:,.0f}".format(value)
    return "%.3g" % value if value else "0"


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
        text += ("\n### %s\n\n| | unit | stock | ours | ours : stock |\n|---|---|---|---|---|\n"
                 % experiment.__doc__.split("\n")[0])
        for row in found["rows"]:
            text += ("| %s | %s | %s | %s | %s |\n"
                     % (row["what"], row["unit"], number(row["stock"]), number(row["ours"]), ratio(row)))
    return text


def plot(results, path):
    """Ours against stock, bar by bar: how many times better."""
    import matplotlib
    matplotlib.use("svg")
    # The same results give the same file.
    matplotlib.rcParams["svg.hashsalt"] = "presence"
    from matplotlib import pyplot
    bars = []
    for name, _, found in experiments_of(results):
        for row in found["rows"]:
            if row["stock"] and row["ours"] and row["unit"]:
                times = row["ours"] / row["stock"] if row["better"] == "more" else row["stock"] / row["ours"]
                bars.append(("%s: %s" % (name, row["what"]), times))
    figure, axes = pyplot.subplots(figsize=(10, 1 + 0.24 * len(bars)))
    labels, times = zip(*reversed(bars))
    colours = ["#2e7d32" if one >= 1 else "#c62828" for one in times]
    axes.barh(range(len(bars)), times, color=colours)
    axes.set_yticks(range(len(bars)), labels, fontsize=7)
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("times better than the stock modules (1 = the same, logarithmic)")
    for at, one in enumerate(times):
        axes.text(one, at, " %.1f" % one, va="center", fontsize=6)
    axes.margins(y=0.01)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
