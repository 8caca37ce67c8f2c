"""The packaged model as a service."""
