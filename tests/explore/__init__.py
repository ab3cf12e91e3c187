"""Lives of a presence server, drawn at random, on the stock modules and on ours, and compared (`make explore`)."""
