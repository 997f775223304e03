"""What a nonlinear map does over depth: fixed points, their branches, Lyapunov exponents."""
