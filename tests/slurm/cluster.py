"""A real SLURM on 127.0.0.1: controller, one node, and munge, started and ended by their pids."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel", "sinfo")
_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def why_not() -> str | None:
    """Return why no SLURM can be started here; None where one can."""
    missing = [name for name in _PROGRAMS if shutil.which(name, path=_PATH) is None]
    if missing:
        return f"no {', '.join(missing)} here; apt-get install slurm-wlm munge"
    if os.geteuid() != 0:
        return "slurmd has to be started as root"
    with suppress(KeyError):
        pwd.getpwnam("munge")
        return None
    return "there is no user munge"


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for item in sockets:
            item.bind(("127.0.0.1", 0))
        return [int(item.getsockname()[1]) for item in sockets]
    finally:
        for item in sockets:
            item.close()


def _configuration(folder: Path) -> str:
    host = socket.gethostname().partition(".")[0]
    controller, node = _free_ports(2)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20 - 500
    return f"""
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser=root
AuthType=auth/munge
# A job that is put back into the queue waits for as long as credentials last.
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
# A requeued job is started by the backfill scheduler, which looks every 30 s by default.
SchedulerParameters=bf_interval=3
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
KillWait=30
MpiDefault=none
SwitchType=switch/none
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory={memory}
PartitionName=short Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@contextmanager
def running_cluster() -> Iterator[dict[str, str]]:
    """Start a cluster for the block; gives the variables that its commands need."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)
    munge = folder / "munge"
    for path in (munge, folder / "state", folder / "spool"):
        path.mkdir()
    (munge / "key").write_bytes(os.urandom(1024))
    (munge / "key").chmod(0o400)
    for path in (munge, munge / "key"):
        shutil.chown(path, "munge", "munge")
    (folder / "slurm.conf").write_text(_configuration(folder))
    environment = {"PATH": _PATH, "SLURM_CONF": str(folder / "slurm.conf")}
    everything = {**os.environ, **environment}
    started: list[subprocess.Popen[bytes]] = []

    def start(*command: str, user: str | None = None) -> None:
        with (folder / f"{Path(command[0]).name}.out").open("wb") as output:
            started.append(
                subprocess.Popen(
                    command,
                    env=everything,
                    user=user,
                    group=user,
                    extra_groups=[] if user else None,
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                )
            )

    try:
        files = {"key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        options = [f"--{option}={munge / name}" for option, name in files.items()]
        socket_path = munge / "socket"
        start(
            "munged", "--foreground", "--force", f"--socket={socket_path}", *options, user="munge"
        )
        _wait_for(lambda: socket_path.exists(), "munged", folder)
        start("slurmctld", "-D", "-i")
        start("slurmd", "-D")

        def is_idle() -> bool:
            shown = subprocess.run(
                ["sinfo", "-h", "-o", "%T"], env=everything, capture_output=True, text=True
            )
            return shown.stdout.strip() == "idle"

        _wait_for(is_idle, "slurmd", folder)
        yield environment
    finally:
        subprocess.run(["scancel", "--user=root"], env=everything, timeout=30, check=False)
        for process in reversed(started):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(condition: object, what: str, folder: Path) -> None:
    assert callable(condition)
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            said = "\n".join(
                f"{path.name}: {path.read_text(errors='replace')[-1500:]}"
                for path in [*folder.glob("*.log"), *folder.glob("*.out")]
            )
            raise RuntimeError(f"{what} did not come up\n{said}")
        time.sleep(0.2)
