"""The tiny world: real, small, from scratch."""
