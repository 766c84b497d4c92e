"""The commands of docs/operators/scale.md, as they are written: six nodes, the service on them, and a failover."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from tests.servers import free_port, program

PAGE = Path(__file__).parents[3] / "docs" / "operators" / "scale.md"


def commands(directory: Path) -> str:
    """Returns the page's commands, in another directory and on free ports."""
    text = PAGE.read_text()
    text = text[text.index("### Try it on one machine") : text.index("### Settings of the nodes")]
    script = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
    script = script.replace("/tmp/im-cluster", str(directory))
    own = {str(port): str(free_port()) for port in (*range(7001, 7007), 8080)}
    # All at once: the own one of a port may have another port in it.
    script = re.sub("|".join(own), lambda port: own[port[0]], script)
    buses = " ".join(f"[{port}]={free_port()}" for port in own.values())
    assert "--cluster-port 1$port" in script
    return f"declare -A bus=({buses})\n" + script.replace("1$port", "${bus[$port]}")


def test_the_commands_start_a_cluster_and_the_service_on_it(tmp_path: Path) -> None:
    program("redis-cli")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {name: value for name, value in os.environ.items() if not name.startswith("IM_")} | {"PATH": path}
    bash = shutil.which("bash")
    assert bash is not None
    log = tmp_path / "output"
    with log.open("wb") as output:
        running = subprocess.Popen(
            [bash, "-eu", "-c", commands(tmp_path / "cluster")],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            assert running.wait(200) == 0, log.read_text()[-3000:]
        finally:
            os.killpg(running.pid, signal.SIGKILL)
    said = log.read_text()
    assert "All 16384 slots covered" in said
    assert said.count('"ready":true') == 3
    assert '"mid":' in said
