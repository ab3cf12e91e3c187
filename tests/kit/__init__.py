"""Everything the scenarios need: a SIP client, a Kamailio to talk to, its database, and a comparison of traces."""
