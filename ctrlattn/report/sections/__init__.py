"""The questions the report answers, one file each, in the order of the page."""
