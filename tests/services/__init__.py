"""Real services for the tests: a Slurm cluster, a Ray cluster and PostgreSQL, each on loopback and without systemd.

`make services` installs what is missing and starts them, `make services-stop` stops them. All that they write is in
one folder, `.services/` at the root of the repository or the one that CFX_SERVICES names, and the ports are chosen at
the start, so two clones can each have their own.
"""
