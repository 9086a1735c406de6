# SPDX-License-Identifier: Apache-2.0
"""The whole chain on one machine: sshd and nginx, a Jupyter kernel, Chromium.

    python -m chain            start it, print the URL, stay until Ctrl-C
    python -m chain --check    drive it with a browser and print what was seen
    python -m chain --plain    either, with a plain proxy where root would have a prepared one

Everything listens on loopback, on ports that are free, and ends with this process.
"""
