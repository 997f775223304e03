"""The page of `ctrlattn report`, a file for each section: loops that real attention matrices drive."""
