"""The stages of dvc.yaml, one module each: `run(params, ..., output)` makes an output that appears whole."""
