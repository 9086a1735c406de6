# Databricks notebook source
# SPDX-License-Identifier: Apache-2.0
# MAGIC %md
# MAGIC # What this compute offers to taipy_tunnel
# MAGIC
# MAGIC For a report of a problem: it names what is there, and shows no token, no secret and no name of yours.

# COMMAND ----------

import importlib.metadata
import os
import platform
import socket
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit


def look(what, found):
    try:
        print(f"{what:28} {found()}")
    except Exception as error:
        print(f"{what:28} - {type(error).__name__}")


def context():
    from dbruntime.databricks_repl_context import get_context

    return get_context()


def secret(name):
    try:
        return dbutils.secrets.get("taipy-tunnel", name)
    except Exception:
        if "_" not in name:
            raise
        return dbutils.secrets.get("taipy-tunnel", name.replace("_", "-"))  # an Azure Key Vault's


def address():
    server = secret("server").strip()
    url = urlsplit(server if "://" in server else f"ssh://{server}")
    return url.hostname, url.port or (443 if url.scheme == "tls" else 22)


look("runtime", lambda: os.environ["DATABRICKS_RUNTIME_VERSION"])
look("Python, machine", lambda: f"{platform.python_version()} {platform.machine()} {'.'.join(platform.libc_ver())}")
look("ipykernel, taipy", lambda: [importlib.metadata.version(name) for name in ("ipykernel", "taipy")])
look("names of a notebook", lambda: [n for n in ("dbutils", "spark", "displayHTML") if n in get_ipython().user_ns])
look("context", lambda: [n for n in ("apiUrl", "apiToken", "clusterId", "jobId") if getattr(context(), n, None)])
look("entry point's context", lambda: bool(dbutils.notebook.entry_point.getDbutils().notebook().getContext()))
look("cluster in Spark's settings", lambda: bool(spark.conf.get("spark.databricks.clusterUsageTags.clusterId")))
look("secrets.list", lambda: callable(dbutils.secrets.list))
for name in ("server", "host_key", "key"):
    look(f"secret {name!r}", lambda name=name: f"{len(secret(name))} characters")
look("secrets from a thread", lambda: len(ThreadPoolExecutor().submit(secret, "server").result()) > 0)
look("way to the proxy", lambda: socket.create_connection(address(), timeout=5).close() is None)
look("variables TAIPY_TUNNEL_…", lambda: sorted(name for name in os.environ if name.startswith("TAIPY_TUNNEL_")))
look("on the way out", lambda: sorted(name for name in os.environ if name.upper().endswith("_PROXY")))
look("HTML of results", lambda: "text/html" in get_ipython().display_formatter.active_types)
