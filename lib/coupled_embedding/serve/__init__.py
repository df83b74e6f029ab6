"""A page and a JSON endpoint for programs (docs/serve.md); needs ``pip install 'coupled-embedding[serve]'``."""
