# Databricks notebook source
# SPDX-License-Identifier: Apache-2.0
# MAGIC %md
# MAGIC # A scenario app: visitors set what goes in, a task computes, the page shows what comes out

# COMMAND ----------

# MAGIC %pip install taipy /Workspace/Shared/taipy_tunnel-0.1.0-py3-none-manylinux2014_x86_64.whl

# COMMAND ----------

import tempfile

import taipy as tp
from taipy import Config, Gui, Orchestrator


def forecast(units: int) -> int:
    return units * 12


# On the driver's own disk; the notebook's folder may be read-only.
disk = tempfile.mkdtemp()
Config.configure_core(storage_folder=f"{disk}/data", taipy_storage_folder=f"{disk}/taipy")
units = Config.configure_data_node("units", default_data=10)
year = Config.configure_data_node("year")
task = Config.configure_task("forecast", forecast, units, year)
plan = Config.configure_scenario("plan", task_configs=[task])

orchestrator = Orchestrator()
orchestrator.run()
scenario = tp.create_scenario(plan)

# COMMAND ----------

sold, expected = 10, "not computed yet"

page = """
# Sales plan

Sold a month: <|{sold}|number|id=sold|>

<|Compute|button|id=compute|on_action=compute|>

A year: <|{expected}|text|id=expected|>
"""


def compute(state):
    scenario.units.write(int(state.sold))
    scenario.submit(wait=True)
    state.expected = str(scenario.year.read())


gui = Gui(page)
gui.run(title="Sales plan")

# COMMAND ----------

import taipy_tunnel

tunnel = taipy_tunnel.expose()
tunnel
