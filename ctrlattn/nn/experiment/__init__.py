"""Training and comparing configurations: data, runs, statistics, tables."""
