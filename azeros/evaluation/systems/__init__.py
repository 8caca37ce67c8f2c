"""Whom the benchmarks are put to: one file a family, all behind `base.System`."""
