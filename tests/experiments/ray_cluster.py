"""A Ray cluster of two nodes on this machine, small and on the loopback device alone, for tests to kill parts of."""

import os
import shutil
import tempfile
from pathlib import Path

from processes import descendants

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # how Ray is told to stay on the loopback device

SMALL = {"num_cpus": 1, "object_store_memory": 80_000_000}
# A node that is lost is missed within seconds.
PATIENCE = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 500, "health_check_failure_threshold": 4}


class TinyCluster:
    """Two nodes with a core each; the first is the head."""

    def __init__(self):
        from ray.cluster_utils import Cluster

        self._folder = os.environ["RAY_TMPDIR"] = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # sockets: short paths
        head = SMALL | {"include_dashboard": False, "_system_config": PATIENCE}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self.address = self._cluster.address
        assert self.address.startswith("127.0.0.1:")
        self.second = self._cluster.add_node(**SMALL)

    def workers(self, nodes=None) -> set[int]:
        """Return the processes that run a cell, of some nodes or of both."""
        nodes = [self._cluster.head_node, self.second] if nodes is None else nodes
        found = set().union(*(descendants(raylet(node)) for node in nodes))
        return {pid for pid in found if b"ray::do" in command_of(pid)}

    def others(self) -> list:
        """Return the node that this process is not connected to, once it is connected."""
        import ray

        own = ray.get_runtime_context().get_node_id() if ray.is_initialized() else None
        return [node for node in (self._cluster.head_node, self.second) if own and node._node_id != own]

    def close(self) -> None:
        self._cluster.shutdown()
        shutil.rmtree(self._folder, ignore_errors=True)


def raylet(node) -> int:
    """Return the process that is a node."""
    return node.all_processes["raylet"][0].process.pid


def command_of(pid: int) -> bytes:
    """Return what a process calls itself; nothing if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
