"""The page of `ctrlattn analyze`: what the layers of a checkpoint do as a feedback system."""
