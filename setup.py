from setuptools import find_packages, setup

EXPORT = ["onnx>=1.17", "onnxruntime>=1.20", "onnxscript>=0.5"]

setup(
    name="coupled-embedding",
    version="0.2.0",
    description="Bottom-up multi-person pose estimation with coupled embeddings",
    package_dir={"": "lib"},
    packages=find_packages("lib"),
    package_data={"coupled_embedding": ["py.typed"]},
    python_requires=">=3.11",
    install_requires=[line for line in open("requirements.txt").read().splitlines() if line and line[0] != "#"],
    extras_require={
        "test": [
            "pytest>=8",
            "hypothesis>=6.100",
            "ruff==0.17.*",
            "mypy>=1.11",
            "faster-coco-eval>=1.6",
            "trackeval>=1.3",
            *EXPORT,
        ],
        "export": EXPORT,
    },
)
