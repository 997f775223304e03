"""A checkpoint as an object: loaded, watched, changed and saved."""
