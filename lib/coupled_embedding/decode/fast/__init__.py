"""Decode at full speed: the same poses as the reference, to the last bit."""
