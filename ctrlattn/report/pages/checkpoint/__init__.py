"""The page of `ctrlattn analyze`, a file for each section: the layers of a checkpoint as a feedback system."""
