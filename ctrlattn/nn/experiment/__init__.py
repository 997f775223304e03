"""The trained comparison of configurations: data, arms, training runs, scores, statistics and tables."""
