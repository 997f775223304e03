"""The four pages of the command line, a room each."""
