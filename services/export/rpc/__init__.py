"""ExportService on the wire."""
