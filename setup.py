"""Packages of the wheel: one import package, which holds what lies beside it in a checkout."""

from setuptools import find_packages, setup

BESIDE = ("search_spaces", "cluster")

setup(
    packages=[*find_packages(include=["study", "study.*"]), *(f"study.{name}" for name in BESIDE)],
    package_dir={"study": "study"} | {f"study.{name}": name for name in BESIDE},
)
