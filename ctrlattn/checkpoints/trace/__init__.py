"""What a layer of any residual network adds to its stream, seen by running it."""
