"""This room holds what scenes are made of: measurements, pictures, intervals, verdicts, and how a scene ends."""
