"""A Slurm of one node on the loopback address, all of its files in one folder; for root only."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")
SETTINGS = """
ClusterName=here
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
MpiDefault=none
KillWait=5
ReturnToService=2
SlurmdParameters=config_overrides
NodeName=localhost NodeAddr=127.0.0.1 CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=here Nodes=ALL Default=YES MaxTime=60 State=UP
"""


def lacks() -> str:
    """Why no Slurm can be started here; empty if it can."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"no {missing[0]} here: apt-get install slurm-wlm munge"
    return "" if os.geteuid() == 0 else "Slurm's daemons are started by root only"


@contextlib.contextmanager
def slurm_here(folder: Path) -> Iterator[None]:
    """Start munged, slurmctld and slurmd, wait until the node is idle, and stop them at the end."""
    for name in ("munge", "state", "spool"):
        (folder / name).mkdir(mode=0o711, parents=True)
    (folder / "munge/key").write_bytes(os.urandom(64))
    (folder / "munge/key").chmod(0o400)
    (folder / "slurm.conf").write_text(SETTINGS.format(folder=folder, ports=_free_ports(2)))
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    munge = [
        f"--{name}={folder}/munge/{name[:-5]}"
        for name in ("key-file", "log-file", "pid-file", "seed-file")
    ]
    commands = (
        ["munged", "--foreground", "--force", f"--socket={folder}/munge/socket", *munge],
        ["slurmctld", "-D", "-c"],
        ["slurmd", "-D", "-N", "localhost"],
    )
    started = []
    try:
        for command in commands:
            with open(folder / f"{command[0]}.log", "w") as log:
                started.append(subprocess.Popen(command, stdout=log, stderr=log))
            time.sleep(0.5)
        _wait_for_node(folder)
        yield
    finally:
        subprocess.run(["scancel", "--user=root"], check=False, capture_output=True)
        _wait_for_jobs()
        for process in reversed(started):
            process.terminate()
        for process in started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
        if before is None:
            del os.environ["SLURM_CONF"]
        else:
            os.environ["SLURM_CONF"] = before


def _wait_for_node(folder: Path) -> None:
    until = time.monotonic() + 60.0
    while True:
        answer = subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True)
        if answer.stdout.strip() == "idle":
            return
        if time.monotonic() > until:
            logs = {path.name: path.read_text()[-2000:] for path in folder.glob("*.log")}
            raise RuntimeError(f"Expected an idle node, got {answer}: {logs}")
        time.sleep(0.2)


def _wait_for_jobs() -> None:
    """Until no job is left, whose processes would outlive the daemons."""
    until = time.monotonic() + 20.0
    queue = ["squeue", "-h", "-o", "%i"]
    while subprocess.run(queue, capture_output=True, text=True, check=False).stdout.strip():
        if time.monotonic() > until:
            return
        time.sleep(0.2)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [item.getsockname()[1] for item in sockets]
    for item in sockets:
        item.close()
    return ports
