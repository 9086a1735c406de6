# SPDX-License-Identifier: Apache-2.0
"""What is known of Taipy: where its app listens, and how its pages are brought up to date."""
