"""The page of `ctrlattn report`: each file answers one question, in the order of the page."""
