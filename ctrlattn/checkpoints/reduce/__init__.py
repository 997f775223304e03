"""A checkpoint made smaller: which sublayers are dropped, which gains replace them, and what that costs."""
