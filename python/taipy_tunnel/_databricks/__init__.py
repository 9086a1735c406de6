# SPDX-License-Identifier: Apache-2.0
"""What is known of Databricks: the notebook, its workspace's secrets, and the machine under it."""
