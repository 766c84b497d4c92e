"""`emqx-im rules export` as its operator runs it."""

import tarfile
from pathlib import Path

import pytest

from tests.integration.emqx.conftest import HOOK_TOKEN, JWT_SECRET, Run


def cluster(archive: Path) -> str:
    folder = archive.name.removesuffix(".tar.gz")
    with tarfile.open(archive, "r:gz") as tar:
        assert tar.getnames() == [f"{folder}/META.hocon", f"{folder}/cluster.hocon"]
        content = tar.extractfile(f"{folder}/cluster.hocon")
        assert content is not None
        return content.read().decode()


def files(directory: Path) -> list[str]:
    return [file.name for file in directory.iterdir()]


async def test_an_archive_for_the_dashboard(run: Run, tmp_path: Path) -> None:
    ran = await run("rules", "export", "-o", "backups.tar.gz", "--hook-url", "https://elsewhere/")
    assert (ran.status, ran.out) == (0, "written: backups.tar.gz\n")
    assert "the file does not contain the rates of listeners" in ran.err
    text = cluster(tmp_path / "backups.tar.gz")
    assert 'url = "https://elsewhere"' in text
    assert f'"Bearer {HOOK_TOKEN}"' in text
    assert f'secret = "{JWT_SECRET}"' in text
    assert "listeners" not in text
    assert (tmp_path / "backups.tar.gz").stat().st_mode & 0o077 == 0


async def test_only_rules_needs_no_user_tokens(run: Run, tmp_path: Path) -> None:
    ran = await run("rules", "export", "-o", "a.tar.gz", "--only", "rules", "--name", "chat", IM_JWT_SECRET="")
    assert (ran.status, ran.err) == (0, "")
    text = cluster(tmp_path / "a.tar.gz")
    assert "chat_message = {" in text
    for root in ("authentication", "authorization =", "mqtt", "retainer", "listeners"):
        assert f"\n{root}" not in text


def meta(archive: Path) -> str:
    with tarfile.open(archive, "r:gz") as tar:
        content = tar.extractfile(f"{archive.name.removesuffix('.tar.gz')}/META.hocon")
        assert content is not None
        return content.read().decode()


async def test_for_a_version(run: Run, tmp_path: Path) -> None:
    ran = await run("rules", "export", "-o", "any.tar.gz")
    assert "pass --for for EMQX 6.2 and newer" in ran.err
    assert "node_cache" not in cluster(tmp_path / "any.tar.gz")
    assert 'version = "5.0.0"' in meta(tmp_path / "any.tar.gz")

    ran = await run("rules", "export", "-o", "new.tar.gz", "--for", "6.2")
    assert (ran.status, "--for" in ran.err) == (0, False)
    assert "node_cache = {\n    enable = false\n  }" in cluster(tmp_path / "new.tar.gz")
    # An EMQX that is older says that it is, and takes nothing.
    assert 'version = "6.2.0"' in meta(tmp_path / "new.tar.gz")

    ran = await run("rules", "export", "-o", "old.hocon", "--format", "hocon", "--for", "5.8.9")
    assert (ran.status, "--for" in ran.err) == (0, False)
    assert "node_cache" not in (tmp_path / "old.hocon").read_text()


async def test_hocon_with_the_acl_beside_it(run: Run, tmp_path: Path) -> None:
    ran = await run("rules", "export", "-o", "im.hocon", "--format", "hocon")
    assert ran.status == 0, ran
    assert "emqx-im-acl.conf" in ran.err
    text = (tmp_path / "im.hocon").read_text()
    assert 'path = "${EMQX_ETC_DIR}/emqx-im-acl.conf"' in text
    assert "{deny," not in text
    acl = tmp_path / "emqx-im-acl.conf"
    assert "{deny," in acl.read_text()
    assert acl.stat().st_mode & 0o004, "EMQX runs as another user"


async def test_a_second_export_replaces_the_first(run: Run, tmp_path: Path) -> None:
    for url in ("http://one", "http://two"):
        assert (await run("rules", "export", "-o", "a.tar.gz", "--hook-url", url)).status == 0
    assert "http://one" not in cluster(tmp_path / "a.tar.gz")
    assert files(tmp_path) == ["a.tar.gz"]


@pytest.mark.parametrize(
    ("arguments", "taken"),
    [
        (("-o", "a.tar.gz"), "a.tar.gz"),
        (("-o", "im.hocon", "--format", "hocon"), "im.hocon"),
        (("-o", "im.hocon", "--format", "hocon"), "emqx-im-acl.conf"),
    ],
)
async def test_a_link_that_somebody_laid_is_not_followed(
    arguments: tuple[str, ...], taken: str, run: Run, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("theirs")
    (tmp_path / taken).symlink_to(elsewhere)
    ran = await run("rules", "export", *arguments)
    assert (ran.status, ran.out) == (1, "")
    assert f"--output: {taken}: is a link" in ran.err
    assert elsewhere.read_text() == "theirs"


async def test_a_file_that_others_could_read_is_made_anew(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").touch()
    (tmp_path / "a.tar.gz").chmod(0o666)
    # The name of the file that is written to first must not be known to others.
    (tmp_path / ".a.tar.gz.new").symlink_to(tmp_path / "elsewhere")
    assert (await run("rules", "export", "-o", "a.tar.gz")).status == 0
    assert (tmp_path / "a.tar.gz").stat().st_mode & 0o077 == 0
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    ("settings", "arguments", "told"),
    [
        ({"IM_HOOK_URL": ""}, (), "IM_HOOK_URL"),
        ({"IM_HOOK_URL": "emqx-im:8080"}, (), "IM_HOOK_URL"),
        ({"IM_HOOK_TOKEN": ""}, (), "IM_HOOK_TOKEN"),
        ({"IM_JWT_SECRET": ""}, (), "IM_JWT_SECRET or IM_JWT_JWKS_URL"),
        ({}, ("--hook-url", "emqx-im"), "--hook-url"),
        ({}, ("--name", "no-name"), "--name"),
        ({}, ("--for", "5.7"), "--for: '5.7' is not a version of EMQX from 5.8 on"),
        ({}, ("--for", "4.4.19"), "--for: '4.4.19' is not"),
        ({}, ("--for", "latest"), "--for: 'latest' is not"),
        ({}, ("--for", "6.2.x"), "--for: '6.2.x' is not"),
        ({}, ("--for", "6.2", "--only", "rules"), "--for: the rules are the same for every version"),
        ({}, ("-o", "a.zip"), "--output"),
        ({}, ("-o", "missing/a.tar.gz"), "--output"),
    ],
)
async def test_what_is_wrong_is_one_line(
    settings: dict[str, str], arguments: tuple[str, ...], told: str, run: Run, tmp_path: Path
) -> None:
    ran = await run("rules", "export", "-o", "a.tar.gz", *arguments, **settings)
    assert (ran.status, ran.out, ran.err.count("\n")) == (1, "", 1), ran
    assert told in ran.err
    assert files(tmp_path) == []
