"""Where the packages lie; pyproject.toml has the rest."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["lensllm", "lensllm.*"]), "lensllm.conf", "lensllm.scripts"],
    package_dir={"lensllm.conf": "conf", "lensllm.scripts": "scripts"},
)
