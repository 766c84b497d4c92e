"""Exports `emqx-rules/` as files for EMQX: a backup archive for its dashboard, or HOCON for its command line."""

import io
import re
import tarfile
from pathlib import PurePath
from typing import Any

from hooks.emqx.rules import hocon
from hooks.emqx.rules.render import Rules
from hooks.emqx.versions import Version

SUFFIX = ".tar.gz"
ACL_PATH = "${EMQX_ETC_DIR}/emqx-im-acl.conf"
"""Where HOCON expects the file rules on every node; not EMQX's own acl.conf, as that one allows everything."""

_META = 'edition = "ce"\nversion = "{version}"\n'
_ANY_VERSION = "5.0.0"
"""Passes every version check of EMQX 5.8 and 6.x. One that is older than the archive refuses it, and says so."""

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def configuration(rules: Rules, *, only_rules: bool, version: Version | None = None) -> dict[str, Any]:
    """Returns each root key with what stands under it, with the file rules in place.

    version: the EMQX that reads it; None for what every version takes. There are no listeners in it: an import of one
    resets all of EMQX's own, in some versions to ports that are open to everybody.
    """
    if only_rules:
        return rules.webhook()
    special = rules.for_version(version).get("authorization", {}) if version else {}
    return {
        **rules.broker,
        "authentication": rules.authentication,
        "authorization": {**rules.authorization, **special},
        **rules.webhook(),
    }


def archive(content: dict[str, Any], file_name: str, version: Version | None = None) -> bytes:
    """Returns the backup archive; the folder in it is named like the file. Raises ValueError for a name that EMQX
    refuses.

    version: the oldest EMQX that takes it.
    """
    folder = file_name.removesuffix(SUFFIX)
    if folder == file_name or not _FILE_NAME.fullmatch(folder):
        raise ValueError(f"{file_name!r}: EMQX takes NAME{SUFFIX}, with letters, digits, `_`, `.` and `-` in NAME")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", format=tarfile.USTAR_FORMAT) as tar:
        meta = _META.format(version=".".join(map(str, version)) if version else _ANY_VERSION)
        for name, text in (("META.hocon", meta), ("cluster.hocon", hocon.write(content))):
            data = text.encode()
            member = tarfile.TarInfo(str(PurePath(folder) / name))
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def plain(content: dict[str, Any], acl_path: str = ACL_PATH) -> str:
    """Returns HOCON for `emqx ctl conf load` and `base.hocon`, which need a file source's path instead of its
    rules."""
    content = dict(content)
    if "authorization" in content:
        sources = [
            {key: value for key, value in source.items() if key != "rules"} | {"path": acl_path}
            if source["type"] == "file"
            else source
            for source in content["authorization"]["sources"]
        ]
        content["authorization"] = {**content["authorization"], "sources": sources}
    return hocon.write(content)
