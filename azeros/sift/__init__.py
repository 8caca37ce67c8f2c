"""SIFT targets: what the frozen language model itself answers to what was said, and to how."""
