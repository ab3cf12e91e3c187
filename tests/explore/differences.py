"""Where ours differs from stock and is right: each declared once, with its reason and its row of COMPAT.md."""

from . import different_agents, different_requests, different_states


class Difference:
    """`row` is the beginning of a row of COMPAT.md's tables of differences, or of the parameter's row that says it;
    `matches` judges one case; `apart` says that the two sides hold different things from then on."""

    def __init__(self, name, row, reason, matches, apart=False):
        self.name, self.row, self.reason, self.matches, self.apart = name, row, reason, matches, apart


# Name, row of COMPAT.md, reason, whether the sides hold different things from then on, what it matches.
_TABLE = different_requests.TABLE + different_states.TABLE + different_agents.TABLE
DIFFERENCES = [Difference(name, row, reason, matches, apart) for name, row, reason, apart, matches in _TABLE]
