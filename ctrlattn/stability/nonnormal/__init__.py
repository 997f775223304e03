"""Non-normal matrices: pseudospectra, Kreiss constant and transient growth, which eigenvalues alone do not show."""
