import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

# what a wheel holds of the checkout besides lib/, in coupled_embedding/_checkout: see utils/paths.py
CHECKOUT_FILES = (
    "config/**/*.yaml",
    "datasets/*.yaml",
    "models/*.yaml",
    "models/*.safetensors",
    "models/published/*.yaml",
    "pretrained/*.yaml",
    "tools/*.py",
)


class BuildWithCheckout(build_py):
    """Builds the packages, and copies configs, schemas, models and commands beside them."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        root = Path(__file__).resolve().parent
        for path in (path for pattern in CHECKOUT_FILES for path in root.glob(pattern)):
            target = Path(self.build_lib, "coupled_embedding/_checkout", path.relative_to(root))
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


SERVE = ["fastapi>=0.115", "uvicorn>=0.30", "python-multipart>=0.0.18"]
DOCS = ["pdoc>=15", *SERVE]  # it imports what it documents
HUB = ["huggingface_hub>=1.0"]
EXPORT = ["onnx>=1.17", "onnxruntime>=1.20", "onnxscript>=0.5"]

setup(
    name="coupled-embedding",
    version="0.2.0",
    description="Bottom-up multi-person pose estimation with coupled embeddings",
    package_dir={"": "lib"},
    packages=find_packages("lib"),
    package_data={
        "coupled_embedding": ["py.typed"],
        "coupled_embedding.browse": ["page/*"],
        "coupled_embedding.serve": ["page/*"],
    },
    cmdclass={"build_py": BuildWithCheckout},
    entry_points={"console_scripts": ["coupled-embedding = coupled_embedding.cli:main"]},
    python_requires=">=3.11",
    install_requires=[line for line in open("requirements.txt").read().splitlines() if line and line[0] != "#"],
    extras_require={
        "test": [
            "pytest>=8",
            "pytest-xdist>=3.6",
            "hypothesis>=6.100",
            "ruff==0.17.*",
            "mypy>=1.11",
            "faster-coco-eval>=1.6",
            "trackeval>=1.3",
            "supervision>=0.29",
            "imageio-ffmpeg>=0.5",
            "httpx>=0.27",
            "playwright>=1.45",
            *EXPORT,
            *DOCS,
            *HUB,
        ],
        "docs": DOCS,
        "export": EXPORT,
        "hub": HUB,
        "serve": SERVE,
        "supervision": ["supervision>=0.29"],
    },
)
