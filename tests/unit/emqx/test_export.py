"""The exported files: their layout, and what stands in them."""

import gzip
import io
import tarfile

import pytest

from hooks.emqx.rules import hocon
from hooks.emqx.rules.export import ACL_PATH, archive, configuration, plain
from hooks.emqx.rules.render import Parameters, Rules

RULES = Rules(Parameters("emqx_im", "http://im:8080", 'to"k\\en', "jwt", None))
EVERYTHING = configuration(RULES, only_rules=False)


def members(packed: bytes) -> list[tuple[tarfile.TarInfo, str]]:
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as tar:
        found = []
        for member in tar.getmembers():
            content = tar.extractfile(member)
            assert content is not None
            found.append((member, content.read().decode()))
        return found


def test_the_archive_has_exactly_the_two_files_in_a_folder_of_its_own_name() -> None:
    (meta, meta_text), (cluster, _) = members(archive(EVERYTHING, "my-rules.v2.tar.gz"))
    assert (meta.name, cluster.name) == ("my-rules.v2/META.hocon", "my-rules.v2/cluster.hocon")
    assert hocon.read(meta_text, "META") == {"edition": "ce", "version": "5.0.0"}
    assert all(member.isreg() for member in (meta, cluster))


def test_the_archive_is_ustar() -> None:
    raw = gzip.decompress(archive(EVERYTHING, "a.tar.gz"))
    assert raw[257:265] == b"ustar\x0000"
    assert raw.startswith(b"a/META.hocon\0")


@pytest.mark.parametrize("name", ["rules.zip", ".tar.gz", "a b.tar.gz", "-x.tar.gz", "ü.tar.gz"])
def test_a_name_that_emqx_refuses(name: str) -> None:
    with pytest.raises(ValueError, match=r"NAME\.tar\.gz"):
        archive(EVERYTHING, name)


def test_the_archive_holds_the_whole_configuration() -> None:
    (_, _), (_, text) = members(archive(EVERYTHING, "a.tar.gz"))
    assert text == hocon.write(EVERYTHING)
    assert set(EVERYTHING) == {
        *("mqtt", "retainer", "delayed", "authentication", "authorization"),
        *("connectors", "actions", "rule_engine"),
    }
    assert 'authorization = "Bearer to\\"k\\\\en"' in text
    for line in (
        "max_qos_allowed = 1",
        "clientid_override = \"concat([username, '-', clientid])\"",
        'no_match = "deny"',
    ):
        assert line in text
    for file in ("message", "client", "will"):
        assert f"emqx_im_{file} = {{" in text
    assert RULES.acl in text


def test_only_rules_leaves_authentication_and_authorization_alone() -> None:
    content = configuration(RULES, only_rules=True)
    assert set(content) == {"connectors", "actions", "rule_engine"}


def test_plain_hocon_names_the_acl_by_its_path() -> None:
    text = plain(EVERYTHING)
    assert f'path = "{ACL_PATH}"' in text
    assert "{deny, all" not in text
    assert "rules" in EVERYTHING["authorization"]["sources"][0]
    assert 'type = "http"' in text
