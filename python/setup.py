# SPDX-License-Identifier: Apache-2.0
"""The wheel's tag: any Python 3, this architecture, glibc 2.17 (the library is linked against that)."""

import platform

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel


class Wheel(bdist_wheel):
    """One wheel for each architecture, for every Python: the library is loaded, not compiled against it."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.root_is_pure = False

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", f"manylinux2014_{platform.machine()}"


setup(cmdclass={"bdist_wheel": Wheel})
