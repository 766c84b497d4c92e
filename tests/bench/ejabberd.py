"""ejabberd as the distribution has it, with accounts and message archive in a MariaDB; on loopback, in a directory of
its own, without Erlang's port mapper, gone with the process that started it."""

import socket
import subprocess
from pathlib import Path

from tests.servers import MariaServer, Server, free_port, program

HOST = "localhost"
PASSWORD = "bench"
SCHEMA = Path("/usr/share/ejabberd/sql/mysql.sql")
POOL = 32
"""Connections to the database; the default of 10 was slower here."""

_CONFIGURATION = """\
hosts: [{host}]
loglevel: error
listen:
  - {{ip: 127.0.0.1, port: {port}, module: ejabberd_c2s, max_stanza_size: 262144, shaper: none, access: all}}
auth_method: sql
auth_password_format: plain
sql_type: mysql
sql_server: 127.0.0.1
sql_port: {database_port}
sql_database: {database}
sql_username: ejabberd
sql_password: {password}
sql_pool_size: {pool}
default_db: sql
modules:
{modules}
"""
_ARCHIVE = "  mod_mam: {db_type: sql, default: always, assume_mam_usage: true, request_activates_archiving: false}"


class EjabberdServer(Server):
    """`archive`: whether messages are kept (`mod_mam`, in SQL, for all) or only delivered."""

    def __init__(self, directory: Path, maria: MariaServer, database: str, *, archive: bool = True) -> None:
        directory.mkdir(parents=True)
        port = free_port()
        configuration = directory / "ejabberd.yml"
        configuration.write_text(
            _CONFIGURATION.format(
                host=HOST,
                port=port,
                database_port=maria.port,
                database=database,
                password=PASSWORD,
                pool=POOL,
                modules=_ARCHIVE if archive else "  {}",
            )
        )
        log = directory / "ejabberd.log"
        environment = {
            "ERL_LIBS": str(next(Path("/usr/lib").glob("*/ejabberd-*/ebin")).parents[1]),
            "EJABBERD_CONFIG_PATH": str(configuration),
            "EJABBERD_LOG_PATH": str(log),
            "ERL_CRASH_DUMP": "/dev/null",
            "HOME": str(directory),
        }
        arguments = [
            *("env", *(f"{name}={value}" for name, value in environment.items())),
            *(program("erl"), "-noinput", "+K", "true", "+P", "250000", "-start_epmd", "false"),
            *("-mnesia", "dir", f'"{directory}/mnesia"', "-s", "ejabberd"),
        ]
        super().__init__(arguments, port, directory / "log", self._answers)

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True


def make_database(maria: MariaServer, database: str, users: int) -> None:
    """ejabberd's own schema, and accounts `u0` … ."""
    accounts = ",".join(f"('u{number}', '{PASSWORD}', '', '', 0)" for number in range(users))
    statements = [
        f"GRANT ALL ON *.* TO ejabberd@localhost IDENTIFIED BY '{PASSWORD}';",
        f"CREATE DATABASE {database} CHARACTER SET utf8mb4; USE {database};",
        SCHEMA.read_text(),
        f"INSERT INTO users (username, password, serverkey, salt, iterationcount) VALUES {accounts};",
    ]
    sql(maria, "\n".join(statements))


def sql(maria: MariaServer, statements: str) -> str:
    client = [program("mariadb", "mysql"), "--no-defaults", "-h127.0.0.1", f"-P{maria.port}", "-uroot", "-N"]
    return subprocess.run(client, input=statements, check=True, capture_output=True, text=True).stdout
