"""What a state matrix does before its eigenvalues decide: pseudospectra, Kreiss constant, transient growth."""
