"""PostgreSQL in memory: the product's statements by name, with its transactions, row locks and faults.

The product's own code runs on it unchanged; `--postgres` runs the same on the real server, and so shows that
the statements here do what the SQL does.
"""
