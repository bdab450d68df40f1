"""Metrics and the protocols to report them."""
