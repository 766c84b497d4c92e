"""Writes logs to stderr, one line for each event: as JSON, or readable."""

import logging
import sys

import structlog

_JSON: list[structlog.typing.Processor] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
_FOR_A_PERSON: list[structlog.typing.Processor] = [
    structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
]

_WITH_VALUES = ("aiosqlite",)
"""Libraries whose debug lines have the values of statements, which are what users say to each other."""


def configure(level: str, *, readable: bool = False) -> None:
    """Makes every log line of the process, including libraries', a JSON object; `readable`: a readable line."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *(_FOR_A_PERSON if readable else _JSON),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _WITH_VALUES:
        logging.getLogger(name).setLevel(logging.INFO)
