"""Data sets of other tools, read into one form and written as COCO-format files with a schema."""

from coupled_embedding.data.importers.detect import FORMATS, import_dataset
from coupled_embedding.data.importers.parts import ImportedDataset, ImportOptions
from coupled_embedding.data.importers.write import default_name, write_dataset

__all__ = ["FORMATS", "ImportOptions", "ImportedDataset", "default_name", "import_dataset", "write_dataset"]
