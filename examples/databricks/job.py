# Databricks notebook source
# SPDX-License-Identifier: Apache-2.0
# MAGIC %md
# MAGIC # An app for as long as a job runs
# MAGIC
# MAGIC Make this notebook a task of a job: the cluster stays up for as long as the last cell runs, which is the
# MAGIC honest way to have an app all day. The run's output holds the link; cancel the run to end it.

# COMMAND ----------

# MAGIC %pip install taipy /Workspace/Shared/taipy_tunnel-0.1.0-py3-none-manylinux2014_x86_64.whl

# COMMAND ----------

dbutils.widgets.text("hours", "8", "Hours until the run ends")

# COMMAND ----------

import datetime

from taipy.gui import Gui

started = f"{datetime.datetime.now():%H:%M}"

gui = Gui("""
# Today's figures

Computed at <|{started}|text|id=started|>
""")
gui.run(title="Today's figures")

# COMMAND ----------

import taipy_tunnel

tunnel = taipy_tunnel.expose()
tunnel.wait(3600 * float(dbutils.widgets.get("hours")))
tunnel.close()
