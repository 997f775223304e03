"""A checkpoint as an object: families, loading, watching sublayers, stand-ins for them, saving."""
