"""Serve a page and a JSON endpoint that find the people of images: the same as ``coupled-embedding serve``."""

from coupled_embedding.serve.command import main, parse

__all__ = ["main", "parse"]

if __name__ == "__main__":
    main()
