"""The packages of both clients, as they are published: their size, and that they run in an empty directory."""

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.node import javascript, node, npm
from tests.python_package import install_python_client

MAX_BYTES = 12 * 1024
"""Bytes of the JavaScript client, compressed, without MQTT.js."""

OFFLINE = """
import { Device, FileStorage, MemoryStorage, Refused, StateInUse } from '@emqx-im/client/node';
import * as browser from '@emqx-im/client';
import { createRequire } from 'node:module';

const common = createRequire(import.meta.url)('@emqx-im/client/node');
const storage = await FileStorage.open('1001.device');
const inUse = await FileStorage.open('1001.device').catch((error) => error.name);
const options = { uid: 1001, token: () => ' x ', broker: 'mqtt://127.0.0.1:1', url: 'http://127.0.0.1:1', storage };
const device = await Device.open(options);
const sent = device.send('single/1002', 'hi').catch((error) => error.name);
const events = [];
for await (const event of device) {
  events.push(event.reason);
  await device.close();
}
await storage.close();
const commonly = await common.Device.open({ ...options, storage: await common.FileStorage.open('1001.device') });
const kept = await commonly[Symbol.asyncIterator]().next();
await commonly.close();
const again = kept.value.kind;
console.log(JSON.stringify({ inUse, events, sent: await sent, again, browser: Object.keys(browser) }));
process.exit(0);
"""


def test_the_javascript_client_is_small() -> None:
    built = (javascript() / "dist" / "esm" / "index.js").read_bytes()
    assert len(gzip.compress(built, 9)) <= MAX_BYTES


def test_no_name_that_others_know_is_shortened() -> None:
    """The build shortens what it calls internal: nothing that applications, JSON or JavaScript itself name."""
    client = javascript()
    listed = re.search(r"const INTERNAL = .*?\);", (client / "build.mjs").read_text(), re.DOTALL)
    assert listed
    internal = set(re.findall(r"\w+", " ".join(re.findall(r"'([\w|]{3,})'", listed[0]))))
    assert "wiring" in internal
    public = "".join(
        (client / "src" / name).read_text() for name in ("messages.ts", "commands.ts", "storage.ts", "errors.ts")
    )
    options = re.search(r"export interface Options .*?\n}", (client / "src" / "device.ts").read_text(), re.DOTALL)
    assert options
    assert internal.isdisjoint(re.findall(r"(\w+)\??[:(]", public + options[0]))
    native = (
        "[String, Array, Map, Set, Promise, RegExp, Object, Number, AbortSignal, AbortController, Uint8Array, Response]"
    )
    listing = f"{native}.flatMap((of) => [of, of.prototype]).flatMap(Object.getOwnPropertyNames).join(' ')"
    found = subprocess.run([node(), "-p", listing], capture_output=True, text=True, check=True).stdout.split()
    assert internal.isdisjoint(found)


def test_npm_pack_gives_a_package_that_runs_in_an_empty_directory(tmp_path: Path) -> None:
    (packed,) = json.loads(
        npm("pack", "--json", "--ignore-scripts", "--pack-destination", str(tmp_path), folder=javascript())
    )
    files = [file["path"] for file in packed["files"]]
    assert not [path for path in files if path.startswith(("src", "test", "node_modules"))]
    assert "LICENSE" in files
    npm("install", "--no-audit", "--no-fund", str(tmp_path / packed["filename"]), folder=tmp_path)
    assert sorted(path.name for path in (tmp_path / "node_modules" / "@emqx-im").iterdir()) == ["client"]
    (tmp_path / "program.mjs").write_text(OFFLINE)
    ran = subprocess.run([node(), "program.mjs"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    assert said["inUse"] == "StateInUse"
    assert said["sent"] == "Closed"
    # It has come as far as the broker, which is not there.
    assert said["events"] == ["no connection to the broker at mqtt://127.0.0.1:1: connect ECONNREFUSED 127.0.0.1:1"]
    assert said["again"] == "trouble"
    assert {"Device", "IndexedDBStorage", "MemoryStorage", "Refused", "firstFree"} <= set(said["browser"])


@pytest.mark.parametrize("module", ["nodenext", "commonjs"])
def test_the_types_of_the_package_are_those_that_a_program_sees(module: str, tmp_path: Path) -> None:
    client = javascript()
    (tmp_path / "node_modules" / "@emqx-im").mkdir(parents=True)
    (tmp_path / "node_modules" / "@emqx-im" / "client").symlink_to(client)
    (tmp_path / "package.json").write_text(json.dumps({"type": "module" if module == "nodenext" else "commonjs"}))
    (tmp_path / "program.ts").write_text(
        "import { Device, MemoryStorage, type DeviceEvent } from '@emqx-im/client';\n"
        "import { FileStorage } from '@emqx-im/client/node';\n"
        "export async function run(): Promise<number> {\n"
        "  const options = { uid: 1, token: () => '', broker: '', url: '' };\n"
        "  const device = await Device.open({ ...options, storage: new MemoryStorage() });\n"
        "  const storage: { close(): Promise<void> } = await FileStorage.open('x');\n"
        "  await storage.close();\n"
        "  for await (const event of device) {\n"
        "    const kind: DeviceEvent['kind'] = event.kind;\n"
        "    if (event.kind === 'received' && kind) return event.message.mid ?? 0;\n"
        "  }\n"
        "  return device.group(7).kick([1002]);\n"
        "}\n"
    )
    compiler = client / "node_modules" / "typescript" / "bin" / "tsc"
    options = ["--strict", "--noEmit", "--module", "nodenext", "--target", "es2022", "--types", "", "program.ts"]
    ran = subprocess.run([node(), str(compiler), *options], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize("of_sources", [False, True])
def test_the_python_client_is_built_and_runs_in_an_empty_directory(*, of_sources: bool, tmp_path: Path) -> None:
    installed = install_python_client(tmp_path, of_sources=of_sources)
    program = (
        f"import sys; sys.path.insert(0, {str(installed)!r}); import emqx_im_client as client; print(client.__file__)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    assert str(installed) in ran.stdout
    assert (installed / "emqx_im_client" / "py.typed").exists()
    assert list(installed.glob("emqx_im_client-*.dist-info/**/LICENSE"))
