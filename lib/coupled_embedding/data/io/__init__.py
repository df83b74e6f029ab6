"""Hardening: validation of annotation entries, image headers, archives; errors of data, worker processes."""
