"""The archive in MySQL 8 or MariaDB 10.11."""
