"""Satellites: error analysis, dataset validation, upper bounds, profiling. The core never imports them."""
