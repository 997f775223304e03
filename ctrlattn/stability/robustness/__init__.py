"""How far a loop is from instability: margins, norms, gaps, sectors, certificates."""
