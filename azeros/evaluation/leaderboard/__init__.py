"""Our figures beside the published ones, with what tells whether they compare."""
