"""A checkpoint made smaller: which sublayers leave, what stands in for them, what that costs."""
