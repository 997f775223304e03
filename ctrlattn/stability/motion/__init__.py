"""Nonlinear dynamics of a layer map over depth: fixed points, their branches, and Lyapunov exponents."""
