"""Where the outbox lands: MySQL (or MariaDB) and SQLite behind one interface."""
