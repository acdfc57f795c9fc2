"""Runs on disk: the store, published records, provenance, and what lists, verifies and prunes them."""
