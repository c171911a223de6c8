"""The Kubernetes manifests of the documents: Kubernetes takes them, and their commands run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from jsonschema import Draft202012Validator

from tests.fixtures import documents, tools
from tests.fixtures.nvml import NvmlStub
from tests.fixtures.wrap import CARBONTRACK, PATIENCE_S, Wrapper, wait_until

VERSIONS = ("1.29", "1.37")  # the oldest with sidecars, and a new one
MANIFESTS = {
    f"{page} {one['kind']} {one['metadata']['name']}": one
    for page in ("kubernetes.md", "watching.md")
    for one in documents.manifests(page)
}
UID = str(uuid.uuid4())  # the whole machine knows a run by it: other runs of the tests have others
FIELDS = {
    "metadata.labels['batch.kubernetes.io/controller-uid']": UID,
    "metadata.labels['jobset.sigs.k8s.io/jobset-uid']": UID,
    "metadata.namespace": "nlp",
}


def _object(*required: str, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


# What of jobset.x-k8s.io/v1alpha2 a manifest here uses; a Job's template is Kubernetes' own.
_NUMBER, _TEXT, _ANY = {"type": "integer"}, {"type": "string"}, {"type": "object"}
_REPLICATED = _object(
    "name", "template", name=_TEXT, replicas=_NUMBER, template=_object("spec", spec=_ANY)
)
_SPEC = _object(
    "replicatedJobs",
    failurePolicy=_object(maxRestarts=_NUMBER),
    replicatedJobs={"type": "array", "items": _REPLICATED, "minItems": 1},
)
JOB_SET = _object("metadata", "spec", apiVersion=_TEXT, kind=_TEXT, metadata=_ANY, spec=_SPEC)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", MANIFESTS)
def test_every_manifest_is_one_that_kubernetes_takes(name: str, version: str) -> None:
    for manifest in standard(MANIFESTS[name]):
        kubernetes_validate.validate(manifest, version, strict=True)


def standard(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The manifest; of a JobSet, which is checked, the Jobs that it makes."""
    if manifest["kind"] != "JobSet":
        yield manifest
        return
    assert manifest["apiVersion"] == "jobset.x-k8s.io/v1alpha2"
    Draft202012Validator(JOB_SET).validate(manifest)
    for one in manifest["spec"]["replicatedJobs"]:
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": one["name"]}}
        yield {**job, "spec": one["template"]["spec"]}


@pytest.fixture
def node(wrapper: Wrapper, nvml_stub: NvmlStub, tmp_path: Path) -> Wrapper:
    """A node with two GPUs, where `torchrun` has nothing to do."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    for name, does in {
        "carbontrack": f'exec {" ".join(CARBONTRACK)} "$@"',
        "torchrun": 'test -n "$2"',
    }.items():
        (bin_folder / name).write_text(f"#!/bin/sh\n{does}\n")
        (bin_folder / name).chmod(0o755)
    path = f"{bin_folder}:{os.environ['PATH']}"
    wrapper.environ = {**nvml_stub.start(2, "a100").env, "PATH": path}
    return wrapper


@contextmanager
def collector(node: Wrapper, team: Path) -> Iterator[dict[str, str]]:
    """The variables by which a pod ships to a team's ledger."""
    token = node.ask("collect", "token", "add", "nlp", "--db", str(team)).stdout.split()[-1]
    with subprocess.Popen(
        [*CARBONTRACK, "collect", "--listen", "127.0.0.1:0", "--db", str(team)],
        env=node.env,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            yield {"CARBONTRACK_SHIP": url, "CARBONTRACK_SHIP_TOKEN": token}
        finally:
            process.terminate()


def environ_of(container: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, str]:
    """As the kubelet fills it in; a collector's address and secret are those that are given."""
    found = {}
    for one in container.get("env", ()):
        source = one.get("valueFrom", {})
        field = source.get("fieldRef", {}).get("fieldPath")
        value = one.get("value") if field is None else FIELDS[field]
        found[one["name"]] = given.get(one["name"], value)
    assert None not in found.values(), "every value is known"
    return found


def words_of(container: Mapping[str, Any], index: int) -> list[str]:
    words = [*container["command"], *container.get("args", ())]
    return [word.replace("$(JOB_COMPLETION_INDEX)", str(index)) for word in words]


@pytest.mark.parametrize("kind", ["Job pretrain", "JobSet pretrain"])
def test_all_pods_of_a_job_are_one_run(node: Wrapper, tmp_path: Path, kind: str) -> None:
    (job,) = standard(MANIFESTS[f"kubernetes.md {kind}"])
    (container,) = job["spec"]["template"]["spec"]["containers"]
    team = tmp_path / "team.db"
    with collector(node, team) as given:
        for index in (0, 1):
            own = environ_of(container, given) | {"JOB_COMPLETION_INDEX": str(index)}
            done = subprocess.run(
                words_of(container, index),
                env=node.env | own,
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
                check=False,
            )
            assert done.returncode == 0, done.stderr
        wait_until(lambda: len(recordings(node, team)) == 2)
    (run,) = node.json("runs", "--db", str(team))["runs"]
    assert (run["name"], run["project"]) == ("llama2-7b", "nlp")
    shown = node.json("show", "last", "--db", str(team))
    assert shown["nodes_expected"] == 4
    assert shown["status"] != "completed", "two pods never came"
    if kind.startswith("Job "):
        assert (shown["scheduler"], shown["job_id"]) == ("kubernetes", UID)


@pytest.mark.parametrize("kind", ["Job", "JobSet"])
def test_every_pod_of_a_job_knows_where_the_first_one_is(kind: str) -> None:
    manifest = MANIFESTS[f"kubernetes.md {kind} pretrain"]
    (job,) = standard(manifest)
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    options = dict(word.partition("=")[::2] for word in words_of(container, 0) if "=" in word)
    if kind == "Job":
        service = MANIFESTS[f"kubernetes.md Service {pod['subdomain']}"]["spec"]
        assert service["clusterIP"] == "None"
        assert service["selector"] == {"job-name": job["metadata"]["name"]}
        first = f"{job['metadata']['name']}-0.{pod['subdomain']}"
        assert options["--master-addr"] == first
    else:
        name = manifest["metadata"]["name"]
        first = f"{name}-{job['metadata']['name']}-0-0.{name}"
        assert options["--rdzv-endpoint"].partition(":")[0] == first


def recorded(node: Wrapper) -> bool:
    seconds = node.seconds()
    return bool(seconds) and all(seconds.values())


def recordings(node: Wrapper, team: Path) -> list[Any]:
    shown = node.ask("show", "last", "--db", str(team), "--format", "json")
    return [] if shown.returncode else list(json.loads(shown.stdout)["nodes"])


def test_a_sidecar_records_the_job_beside_it(node: Wrapper, tmp_path: Path) -> None:
    tools.need(tools.PROCPS)
    manifest = MANIFESTS["kubernetes.md Job finetune"]
    (sidecar,) = manifest["spec"]["template"]["spec"]["initContainers"]
    (train,) = manifest["spec"]["template"]["spec"]["containers"]
    (shell, option, script) = words_of(sidecar, 0)
    pattern = "[t]rain.py"
    assert f"'{pattern}'" in script
    log = tmp_path / "log"
    log.mkdir()
    (log / "train.log").write_text("")
    job_file = tmp_path / f"{UID}-train.py"  # is looked for on the whole machine
    job_file.write_text("import sys; sys.stdin.read()")
    script = script.replace(pattern, f"[{job_file.name[0]}]{job_file.name[1:]}")
    script = script.replace("/log/", f"{log}/")
    team = tmp_path / "team.db"
    with (
        collector(node, team) as given,
        subprocess.Popen(
            [sys.executable, str(job_file)],
            stdin=subprocess.PIPE,
            env=node.env | environ_of(train, given),
        ) as job,
        subprocess.Popen(
            [shell, option, script],
            env=node.env | environ_of(sidecar, given),
            stderr=subprocess.PIPE,
            text=True,
        ) as beside,
    ):
        try:
            wait_until(lambda: beside.poll() is not None or recorded(node))
            assert job.stdin is not None
            job.stdin.close()
            assert beside.wait(PATIENCE_S) == 0
        finally:
            job.kill()
            beside.kill()
        wait_until(lambda: recordings(node, team))
    shown = node.json("show", "last", "--db", str(team))
    assert (shown["name"], shown["scheduler"], shown["job_id"]) == ("finetune", "kubernetes", UID)
    assert len(shown["devices"]) == 2
