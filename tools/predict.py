"""Find the people of images, videos or a camera: the same as ``coupled-embedding predict``."""

from coupled_embedding.commands.predict import main, parse

__all__ = ["main", "parse"]

if __name__ == "__main__":
    main()
