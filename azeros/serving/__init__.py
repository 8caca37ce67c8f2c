"""From requests to answers, without any web framework."""
