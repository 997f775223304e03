"""The pages of the command line, a file or folder for each: what it shows of its material, in which order."""
