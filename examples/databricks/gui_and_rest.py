# Databricks notebook source
# SPDX-License-Identifier: Apache-2.0
# MAGIC %md
# MAGIC # A Taipy app in a notebook, open to a browser
# MAGIC
# MAGIC Import this file into a workspace (*Import* > *File*) and run its cells from top to bottom. It needs
# MAGIC a proxy machine (docs/proxy.md) and, once for the workspace, the notebook setup_admin (docs/databricks.md).

# COMMAND ----------

# MAGIC %pip install taipy /Workspace/Shared/taipy_tunnel-0.1.0-py3-none-manylinux2014_x86_64.whl

# COMMAND ----------

import taipy as tp
from taipy import Gui, Rest

text = "Original text"
clicks = 0
size = 5
data = {"x": list(range(size)), "y": [x * x for x in range(size)]}

page = """
# Getting started with *Taipy*

My text: <|{text}|text|id=text|>

<|{text}|input|label=Change it here|>

<|Click me|button|id=click|on_action=on_click|>

Clicked <|{clicks}|text|id=clicks|> times

<|{size}|slider|min=2|max=50|on_change=on_size|>

<|{data}|chart|x=x|y=y|>
"""


def on_click(state):
    state.clicks += 1


def on_size(state):
    state.data = {"x": list(range(state.size)), "y": [x * x for x in range(state.size)]}


gui = Gui(page)
rest = Rest()
tp.run(gui, rest, title="Taipy on Databricks")

# COMMAND ----------

# MAGIC %md
# MAGIC Where the proxy is and how to log in there an administrator stored in the secret scope `taipy-tunnel`.
# MAGIC Without it: `expose(server="me@203.0.113.7", host_key="SHA256:…", key="secret:MY-SCOPE/MY-KEY")`

# COMMAND ----------

import taipy_tunnel

tunnel = taipy_tunnel.expose()
tunnel

# COMMAND ----------

# MAGIC %md
# MAGIC Pages that are open show a value as soon as a cell sets it:

# COMMAND ----------

gui.state.text = "Set in a cell"
