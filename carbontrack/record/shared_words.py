"""Words of a command, and names of hosts, that are the same on each node of a job.

Apart from what finds the job: most commands are of none, and wait for what is imported.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Sequence

# Names of options, variables and keys whose value is of one process or one host.
_RANK_OR_HOST = {
    "rank", "node_rank", "machine_rank", "local_rank", "global_rank", "group_rank", "world_rank",
    "procid", "proc_id", "process_id", "process_index", "slurm_procid", "slurm_nodeid",
    "slurm_localid", "node_id", "nodeid", "node_index", "host_id", "host_rank", "worker_id",
    "worker_rank", "worker_index", "task_index", "local_process_index",
    "host", "hostname", "node", "nodename", "master_addr", "master_address", "master_ip",
    "main_process_ip", "rdzv_endpoint", "coordinator", "coordinator_address",
    "init_method", "dist_url", "head_node_ip", "local_addr", "node_ip_address",
}  # fmt: skip
_NAMED = re.compile(r"^-{0,2}\+{0,2}((?:[\w-]+\.)*)([A-Za-z][\w-]*)(=.*)?$", re.DOTALL)
_NUMBERED = re.compile(r"(?<![a-z])(rank|procid|localid|nodeid)[-_.]?\d", re.IGNORECASE)
_ADDRESS = re.compile(r"(?<![\w.])(\d{1,3}\.){3}\d{1,3}(?![\w.]*\.\d)")
_TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*(?:\.[A-Za-z0-9-]+)*")
_BRACKETS = re.compile(r"^([^\[\]]*)\[([^\[\]]*)\](.*)$", re.DOTALL)


def shared_words(command: Sequence[str], hosts: Iterable[str]) -> list[str]:
    """The words of a command that are the same on each node: not those that carry a rank or the
    name or address of a host.
    """
    short = {host.partition(".")[0].lower() for host in hosts} - {""}
    shared: list[str] = []
    words = deque(command)
    while words:
        word = words.popleft()
        named = _NAMED.match(word)
        if named and named[2].lower().replace("-", "_") in _RANK_OR_HOST:
            if named[3] is not None:
                continue
            if word.startswith("-"):
                if words and not words[0].startswith("-"):
                    words.popleft()
                continue
        if not (_NUMBERED.search(word) or _ADDRESS.search(word) or _names_host(word, short)):
            shared.append(word)
    return shared


def _names_host(word: str, short: set[str]) -> bool:
    for token in _TOKEN.findall(word):
        if token.lower() in short or (token.partition(".")[0].lower() in short and "." in token):
            return True
    return False


def expand_hosts(nodes: str, most: int) -> list[str]:
    """The hosts of a list as Slurm writes it, `most` of them: node[01-03,7],login1."""
    hosts: list[str] = []
    for part in re.findall(r"(?:[^,\[\]]|\[[^\]]*\])+", nodes):
        for host in _expanded(part):
            if len(hosts) >= most:
                return hosts
            hosts.append(host)
    return hosts


def _expanded(part: str) -> Iterable[str]:
    brackets = _BRACKETS.match(part)
    if brackets is None:
        yield part
        return
    before, ranges, after = brackets.groups()
    for one in ranges.split(","):
        first, _, last = one.partition("-")
        if not (first.isdecimal() and (last or first).isdecimal()):
            return
        for number in range(int(first), int(last or first) + 1):
            for rest in _expanded(after):
                yield f"{before}{number:0{len(first)}d}{rest}"
