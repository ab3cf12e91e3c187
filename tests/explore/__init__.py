"""A differential explorer: lives of a presence server, drawn at random, on the stock modules and on ours (`make explore`)."""
