"""PostgreSQL: connections, migrations, and SQL kept in files under names."""
