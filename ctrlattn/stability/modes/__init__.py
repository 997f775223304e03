"""Which modes of attention a controller leaves stable, and where a gain moves their poles."""
