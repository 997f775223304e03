"""What the layers of a checkpoint do: recorded signals, gains, Jacobians, scores."""
