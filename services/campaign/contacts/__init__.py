"""From the bytes of a CSV file to contacts: layout, mapping, rows, destinations, COPY payloads. No
IO but `worker`.
"""
