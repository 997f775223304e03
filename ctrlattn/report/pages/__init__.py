"""The four pages of the command line: loops, checkpoint, reduction and observer."""
