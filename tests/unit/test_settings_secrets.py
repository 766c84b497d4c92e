"""Settings from the files of a container's secrets."""

from pathlib import Path

import pytest

from hooks import setting_sources
from hooks.cli.token import jwt_secret
from hooks.setting_sources import PREFIX, TOML_FILE, SettingsError
from hooks.settings import TABLE, load_all


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The required settings, each in a file, as `docker compose` mounts them."""
    for name in TABLE:
        monkeypatch.delenv(PREFIX + name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    directory = tmp_path / "secrets"
    directory.mkdir()
    for name, value in {
        "IM_REDIS_URL": "redis://localhost:6379/0",
        "IM_ARCHIVE_URL": "mysql://im:hidden@localhost/im",
        "IM_HOOK_TOKEN": "first, second",
        "IM_ADMIN_TOKEN": "admin",
        "IM_JWT_SECRET": "jwt",
        "IM_SECRET": "secret",
    }.items():
        (directory / name).write_text(value + "\n")
    (directory / "emqx_cookie").write_text("of another program\n")
    monkeypatch.setattr(setting_sources, "SECRETS", directory)
    return directory


def test_each_file_is_a_setting_without_its_line_end() -> None:
    loaded = load_all()
    assert loaded.redis.redis_url == "redis://localhost:6379/0"
    assert loaded.hooks.hook_token == ("first", "second")
    assert loaded.admin.admin_token == "admin"


def test_the_environment_wins_over_a_secret_and_a_secret_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    TOML_FILE.write_text('admin_token = "of the file"\nhttp_port = 9000\n')
    assert (load_all().admin.admin_token, load_all().http.http_port) == ("admin", 9000)
    monkeypatch.setenv("IM_ADMIN_TOKEN", "of the environment")
    assert load_all().admin.admin_token == "of the environment"


def test_a_missing_secret_is_named(secrets: Path) -> None:
    (secrets / "IM_SECRET").unlink()
    with pytest.raises(SettingsError, match=r"^IM_SECRET: "):
        load_all()


def test_a_malformed_secret_is_named_and_not_repeated(secrets: Path) -> None:
    (secrets / "IM_ARCHIVE_URL").write_text("postgres://hidden@localhost/im")
    with pytest.raises(SettingsError) as refused:
        load_all()
    assert str(refused.value).startswith("IM_ARCHIVE_URL: ")
    assert "hidden" not in str(refused.value)


def test_a_secret_that_may_not_be_read_is_one_line(monkeypatch: pytest.MonkeyPatch, secrets: Path) -> None:
    def refuse(path: Path, *_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(SettingsError, match=r"Permission denied: '.*/IM_\w+'$"):
        load_all()


def test_without_secrets_nothing_is_warned_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(setting_sources, "SECRETS", tmp_path / "nowhere")
    with pytest.raises(SettingsError):
        load_all()


def test_a_token_for_trying_out_is_made_with_the_secret_of_the_file(tmp_path: Path) -> None:
    assert jwt_secret(tmp_path) == "jwt"
