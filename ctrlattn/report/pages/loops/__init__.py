"""The page of `ctrlattn report`: a question a file, in the order of the page."""
