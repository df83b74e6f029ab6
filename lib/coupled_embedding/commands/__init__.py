"""Commands that a program installed without the checkout's tools/ can run, too."""
