"""What scenes are made of: measurements and pictures, a module each; intervals, verdicts, and how a scene ends."""
