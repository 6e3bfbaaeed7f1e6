"""Exports: campaigns and their messages as CSV, read through views by a role that can do nothing else."""
