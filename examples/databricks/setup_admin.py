# Databricks notebook source
# SPDX-License-Identifier: Apache-2.0
# MAGIC %md
# MAGIC # Once for a workspace, by an administrator
# MAGIC
# MAGIC Stores the proxy's address, its host key and a private key to log in with in the secret scope
# MAGIC `taipy-tunnel`. Every notebook of those who may read it then needs no argument: `taipy_tunnel.expose()`.
# MAGIC
# MAGIC The same at a terminal: `taipy-tunnel databricks store --server … --host-key …`

# COMMAND ----------

# MAGIC %pip install /Workspace/Shared/taipy_tunnel-0.1.0-py3-none-manylinux2014_x86_64.whl

# COMMAND ----------

dbutils.widgets.text("server", "", "Proxy, user@host[:port]")
dbutils.widgets.text("host_key", "", "Its host key, SHA256:…")
dbutils.widgets.text("group", "users", "Who may use it")

# COMMAND ----------

# MAGIC %md
# MAGIC Fill in the fields above. The host key is shown by the proxy machine itself:
# MAGIC `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`. The line that the next cell prints is the
# MAGIC public half of the key. On a plain proxy it goes into `~/.ssh/authorized_keys` of the account.
# MAGIC On a prepared one it goes into the tenant's `keys` in the file, and `taipy-tunnel proxy setup` runs again. The
# MAGIC private half is in the scope and nowhere else.

# COMMAND ----------

from taipy_tunnel.__main__ import main

options = {f"--{name}": dbutils.widgets.get(name.replace("-", "_")) for name in ("server", "host-key", "group")}
main(["databricks", "store", *(word for option in options.items() for word in option)])
