"""Settings: where they come from, what is refused, and that secrets stay out of visible."""

from pathlib import Path

import pytest

from hooks.setting_sources import PREFIX, TOML_FILE, SettingsError
from hooks.settings import (
    CONCERNS,
    TABLE,
    ArchiveSettings,
    HookSettings,
    TimelineSettings,
    fields_of,
    load,
    load_all,
    unknown_names,
)

REQUIRED = {
    "IM_REDIS_URL": "redis://:hidden-redis@localhost:6379/0",
    "IM_ARCHIVE_URL": "mysql://im:hidden-archive@localhost/im",
    "IM_HOOK_TOKEN": "hidden-hook, hidden-hook-2",
    "IM_ADMIN_TOKEN": "hidden-admin",
    "IM_JWT_SECRET": "hidden-jwt",
    "IM_SECRET": "hidden-secret",
}
SECRETS = {**REQUIRED, "IM_EMQX_API_SECRET": "hidden-api"}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The required settings, in a directory without a file."""
    for name in TABLE:
        monkeypatch.delenv(PREFIX + name.upper(), raising=False)
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)


def problem_of_load_all() -> str:
    with pytest.raises(SettingsError) as refused:
        load_all()
    message = str(refused.value)
    assert "\n" not in message
    assert "hidden" not in message
    return message


def test_what_is_required_is_enough() -> None:
    settings = load_all()
    assert (settings.http.http_host, settings.http.http_port, settings.http.public_port) == ("127.0.0.1", 8080, None)
    assert settings.hooks.hook_token == ("hidden-hook", "hidden-hook-2")
    assert settings.timelines.window_us == settings.timelines.roaming_us == 7 * 86_400_000_000
    assert (settings.messages.dedupe_seconds, settings.messages.max_payload, settings.pulls.pull_rate) == (
        7200,
        16_384,
        20,
    )
    assert settings.timelines.sync_sender is True
    assert settings.messages.operators == ()


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("empty", [True, False])
def test_a_missing_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, empty: bool) -> None:
    if empty:
        monkeypatch.setenv(name, "")
    else:
        monkeypatch.delenv(name)
    assert name in problem_of_load_all()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("IM_HTTP_PORT", "http"),
        ("IM_HTTP_PORT", "65536"),
        ("IM_HTTP_PORT", "-1"),
        ("IM_PUBLIC_PORT", "hidden"),
        ("IM_REDIS_URL", "localhost:6379"),
        ("IM_REDIS_URL", "http://localhost"),
        ("IM_REDIS_URL", "redis://:hidden/x#y@localhost:port/0"),
        ("IM_REDIS_URL", "redis://localhost/0?db=hidden"),
        ("IM_ARCHIVE_URL", "postgres://hidden@localhost/im"),
        ("IM_ARCHIVE_URL", "mysql://im:hidden@localhost"),
        ("IM_ARCHIVE_URL", "mysql://im:hidden/x@localhost/im"),
        ("IM_ARCHIVE_URL", "sqlite://"),
        ("IM_HOOK_TOKEN", " , "),
        ("IM_EMQX_API_URL", "emqx:18083"),
        ("IM_JWT_JWKS_URL", "file:///etc/keys"),
        ("IM_RETENTION_DAYS", "0"),
        ("IM_RETENTION_DAYS", "-1"),
        ("IM_RETENTION_DAYS", "nan"),
        ("IM_RETENTION_DAYS", "inf"),
        ("IM_RETENTION_DAYS", "week"),
        ("IM_DEDUPE_SECONDS", "0"),
        ("IM_OUTBOX_LIMIT", "0"),
        ("IM_OUTBOX_LIMIT", "1GB"),
        ("IM_MAX_PAYLOAD", "0"),
        ("IM_MAX_PAYLOAD", "2000000"),
        ("IM_PULL_RATE", "0"),
        ("IM_PULL_RATE", "nan"),
        ("IM_PULL_RATE", "inf"),
        ("IM_SYNC_SENDER", "perhaps"),
        ("IM_ROAMING", "decade"),
        ("IM_SHARDS", "65"),
        ("IM_REDIS_WAIT", "-1"),
        ("IM_LOG_LEVEL", "loud"),
        ("IM_EVENTS_URL", "ftp://example.com"),
        ("IM_EVENTS_URL", "https://user:hidden@example.com/"),
        ("IM_EVENTS_SECRET", "hidden"),
        ("IM_EVENTS_SECRET", "whsec_hidden"),
        ("IM_EVENTS_SECRET", "whsec_" + "A" * 28),
        ("IM_EVENTS", "message.stored,message.lost"),
        ("IM_EVENTS_LIMIT", "1"),
    ],
)
def test_a_malformed_setting_is_named_and_not_repeated(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert problem_of_load_all().startswith(f"{name}: ")


def test_events_need_an_address_a_key_and_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IM_EVENTS", "message.stored, message.edited")
    assert problem_of_load_all() == "IM_EVENTS_URL: required with IM_EVENTS"
    monkeypatch.setenv("IM_EVENTS_URL", "https://back-end.example/events/")
    assert problem_of_load_all() == "IM_EVENTS_SECRET: required with IM_EVENTS_URL"
    monkeypatch.setenv("IM_EVENTS_SECRET", "whsec_" + "A" * 32)
    assert load_all().events.events_url == "https://back-end.example/events/"
    assert load_all().events.events == ("message.stored", "message.edited")
    monkeypatch.delenv("IM_EVENTS")
    assert problem_of_load_all() == "IM_EVENTS: required with IM_EVENTS_URL"


def test_either_key_of_the_users_tokens_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IM_JWT_SECRET")
    assert "IM_JWT_JWKS_URL" in problem_of_load_all()
    monkeypatch.setenv("IM_JWT_JWKS_URL", "https://login.example/keys")
    assert load_all().user_tokens.jwt_jwks_url == "https://login.example/keys"


@pytest.mark.parametrize(("value", "words"), [("a", ("a",)), (" a , b,, ", ("a", "b")), ("", ())])
def test_lists_are_comma_separated(monkeypatch: pytest.MonkeyPatch, value: str, words: tuple[str, ...]) -> None:
    monkeypatch.setenv("IM_OPERATORS", value)
    assert load_all().messages.operators == words


@pytest.mark.parametrize(("roaming", "days"), [("week", 7), ("month", 30), ("quarter", 91), ("year", 365)])
def test_a_pull_reaches_as_far_as_roaming_says(roaming: str, days: int) -> None:
    assert load(TimelineSettings, roaming=roaming).roaming_us == days * 86_400_000_000
    assert load(TimelineSettings, roaming=roaming, retention_days=400).roaming_us == 400 * 86_400_000_000


def test_one_concern_needs_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in REQUIRED:
        monkeypatch.delenv(name)
    monkeypatch.setenv("IM_ARCHIVE_URL", "sqlite:///x.db")
    monkeypatch.setenv("IM_HTTP_PORT", "malformed, and none of its business")
    assert load(ArchiveSettings).archive_url == "sqlite:///x.db"
    with pytest.raises(SettingsError, match=r"^IM_HOOK_TOKEN: "):
        load(HookSettings)


def test_every_setting_belongs_to_one_concern() -> None:
    assert sum(len(fields_of(concern)) for concern in CONCERNS.values()) == len(TABLE)


def test_a_setting_that_there_is_not_cannot_be_given() -> None:
    with pytest.raises(TypeError, match="http_prot"):
        load_all(http_prot=1)


def test_a_fraction_of_a_day_is_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IM_RETENTION_DAYS", "0.00001")
    assert load_all().timelines.window_us == 864_000


def test_the_file_is_read_and_the_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    TOML_FILE.write_text('http_port = 9000\nmax_payload = 100\noperators = ["ops", "desk"]\nsync_sender = false\n')
    monkeypatch.setenv("IM_HTTP_PORT", "9001")
    settings = load_all()
    assert (settings.http.http_port, settings.messages.max_payload) == (9001, 100)
    assert settings.timelines.sync_sender is False
    assert settings.messages.operators == ("ops", "desk")
    assert load_all(http_port=9002).http.http_port == 9002


@pytest.mark.parametrize(
    ("text", "named"), [("http_port = ", str(TOML_FILE)), ("http_port = 'x'", "IM_HTTP_PORT"), ("\x00", str(TOML_FILE))]
)
def test_a_malformed_file_is_one_line(text: str, named: str) -> None:
    TOML_FILE.write_text(text)
    assert named in problem_of_load_all()


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    settings = load_all()
    assert "hidden" not in repr(settings)
    assert "hidden" not in str(settings)


def test_names_of_no_setting_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert unknown_names() == []
    monkeypatch.setenv("IM_HTTP_PROT", "1")
    monkeypatch.setenv("OTHER", "1")
    Path(TOML_FILE).write_text("http_port = 1\nhttp_prot = 1\n")
    assert unknown_names() == ["IM_HTTP_PROT", "emqx-im.toml: http_prot"]
