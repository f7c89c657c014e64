"""Packaging of lensllm: loose ranges here, exact pins in requirements.txt."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

setup(
    name="lensllm",
    version="0.1.0",
    description="Which pre-trained LLM to fine-tune, after fine-tuning as little as possible",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    packages=[*find_packages(include=["lensllm", "lensllm.*"]), "lensllm.conf", "lensllm.scripts"],
    package_dir={"lensllm.conf": "conf", "lensllm.scripts": "scripts"},
    package_data={
        "lensllm": [
            "py.typed",
            "evaluation/*.csv",
            "evaluation/*.md",
            "predictors/*.csv",
            "zoo/**/*",
        ],
        "lensllm.conf": ["*.yaml", "**/*.yaml"],
    },
    install_requires=[
        "torch>=2.6",
        "pytorch-lightning>=2.5",
        "transformers>=5.0",
        "datasets>=4.0",
        "hydra-core>=1.3,<1.4",
        "omegaconf>=2.3,<2.4",
        "wandb>=0.25",
        "scipy>=1.13",
        "numpy>=2.0",
        "pandas>=2.2",
        "pyarrow>=17",
        "torchmetrics>=1.6",
        "matplotlib>=3.9",
        "rich>=13",
        "safetensors>=0.5",
        "tokenizers>=0.21",
        "sentencepiece>=0.2",
        "powerlaw>=1.5",
        "peft>=0.17",
    ],
    extras_require={
        "dev": ["ruff", "mypy", "pytest>=8", "pytest-xdist", "hypothesis"],
        "optuna": ["optuna>=4"],
        "qlora": ["bitsandbytes>=0.50"],
        "ray": ["hydra-ray-launcher>=1.2"],
        "slurm": ["hydra-submitit-launcher>=1.2"],
        "sweep": ["hydra-joblib-launcher>=1.2", "hydra-optuna-sweeper>=1.2"],
        "notebooks": ["jupytext>=1.16", "nbmake>=1.5", "nbclient>=0.10", "ipykernel"],
    },
    entry_points={
        "console_scripts": [
            "lensllm-train=lensllm.scripts.train:main",
            "lensllm-select=lensllm.scripts.select_model:main",
            "lensllm-estimate=lensllm.scripts.estimate:main",
            "lensllm-fit=lensllm.scripts.fit_laws:main",
            "lensllm-evaluate=lensllm.scripts.evaluate_selection:main",
            "lensllm-tables=lensllm.scripts.make_tables:main",
            "lensllm-download=lensllm.scripts.download_benchmark:main",
        ]
    },
)
