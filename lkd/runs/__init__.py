"""Runs on disk: store, published records, manifests, provenance, listing and pruning."""
