# SPDX-License-Identifier: Apache-2.0
"""python -m taipy_tunnel: the command taipy-tunnel."""

import sys

from ._cli.command import main

if __name__ == "__main__":
    sys.exit(main())
