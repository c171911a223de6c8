"""Tokens that change, versions that differ, and who may listen in: said, and nothing is lost."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from carbontrack.ledger import tokens
from tests.collect.test_collect import Collector, shown
from tests.fixtures import tools
from tests.fixtures.wrap import CARBONTRACK, Wrapper, wait_until

pytestmark = pytest.mark.usefixtures("patient")

OTHER_VERSION = (
    "from carbontrack.collect import wire; wire.DOCUMENTS = {7: wire.DOCUMENTS.pop(1)}; "
    "from carbontrack.__main__ import main; main()"
)


@pytest.fixture
def collector(wrapper: Wrapper, postgres_url: str) -> Iterator[Collector]:
    collector = Collector(wrapper, postgres_url)
    yield collector
    if collector.process is not None and collector.process.poll() is None:
        collector.stop()


def ship(wrapper: Wrapper, url: str, *options: str, **env: str) -> subprocess.CompletedProcess[str]:
    argv = [*CARBONTRACK, "db", "ship", "--to", url, *options]
    environ = {**wrapper.env, **env}
    return subprocess.run(argv, env=environ, capture_output=True, text=True, check=False)


def test_a_token_that_is_revoked_is_warned_of_once_and_the_new_one_in_its_file_is_found(
    wrapper: Wrapper, collector: Collector
) -> None:
    collector.start()
    file = wrapper.folder / "token"
    file.write_text(secret := collector.token("nlp"))
    name = tokens.hash_of(secret)[:12]
    revoked = wrapper.ask("collect", "token", "revoke", name, "--db", collector.ledger)
    assert revoked.returncode == 0, revoked.stderr
    env = {**wrapper.env, "CARBONTRACK_SHIP_TOKEN_FILE": str(file)}
    job = wrapper.hold(options=("--ship", collector.url, "--name", "locked-out"), env=env)
    job.until_said("the token is unknown or revoked; it is kept here and sent later")
    file.write_text(collector.token("nlp"))
    done = job.end()
    assert done.returncode == 0
    of_team = ("--db", collector.ledger)
    wait_until(lambda: shown(wrapper, *of_team).get("status") == "completed")
    assert shown(wrapper, *of_team) == shown(wrapper)
    assert done.stderr.count("the token is unknown or revoked") == 1
    assert "carbontrack_" not in done.stderr


def test_a_collector_of_another_version_names_both_and_takes_all_when_it_is_replaced(
    wrapper: Wrapper, collector: Collector
) -> None:
    collector.program = [sys.executable, "-P", "-c", OTHER_VERSION]
    collector.start()
    token = collector.token("nlp")
    env = {**wrapper.env, "CARBONTRACK_SHIP_TOKEN": token}
    job = wrapper.hold(options=("--ship", collector.url), env=env)
    job.until_said("version 1 of the document; this collector takes 7")
    assert job.end().returncode == 0
    refused = ship(wrapper, collector.url, CARBONTRACK_SHIP_TOKEN=token)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "takes 7: use the same version of carbontrack. What is left stays queued." in (
        refused.stderr
    )
    collector.stop()
    collector.program = CARBONTRACK
    collector.start()
    assert ship(wrapper, collector.url, CARBONTRACK_SHIP_TOKEN=token).returncode == 0
    assert shown(wrapper, "--db", collector.ledger) == shown(wrapper)


def test_http_to_another_host_needs_to_be_asked_for(wrapper: Wrapper, collector: Collector) -> None:
    collector.host = "127.0.0.2"  # not the address by which this host is known as itself
    collector.start()
    env = {"CARBONTRACK_SHIP_TOKEN": collector.token("nlp")}
    job = wrapper.hold(
        options=("--quiet", "--ship", collector.url, "--insecure"), env={**wrapper.env, **env}
    )
    job.until_recorded(1)
    assert (done := job.end()).returncode == 0, done.stderr
    wait_until(lambda: shown(wrapper, "--db", collector.ledger).get("status") == "completed")
    refused = ship(wrapper, collector.url, **env)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "http would send the token in clear text. Use https, or give --insecure" in (
        refused.stderr
    )
    assert ship(wrapper, collector.url, "--insecure", **env).returncode == 0


def test_a_private_authority_is_trusted_by_its_certificate_alone(
    wrapper: Wrapper, collector: Collector, tmp_path: Path
) -> None:
    tools.need(tools.OPENSSL)
    authority, chain, key = certified(tmp_path)
    collector.options = ["--tls-cert", str(chain), "--tls-key", str(key)]
    collector.start()
    url = f"https://localhost:{collector.port}"
    token = {"CARBONTRACK_SHIP_TOKEN": collector.token("nlp")}
    job = wrapper.hold(options=("--ship", url), env={**wrapper.env, **token})
    job.until_said("certificate verify failed")
    assert job.end().returncode == 0
    refused = ship(wrapper, url, **token)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "certificate verify failed" in refused.stderr
    trusted = {**token, "SSL_CERT_FILE": str(authority)}
    other = ship(wrapper, f"https://127.0.0.1:{collector.port}", **trusted)
    assert "certificate is not valid for '127.0.0.1'" in other.stderr
    assert ship(wrapper, url, **trusted).returncode == 0
    assert shown(wrapper, "--db", collector.ledger) == shown(wrapper)


def certified(folder: Path) -> tuple[Path, Path, Path]:
    """The certificate of an authority, and one of `localhost` by it with its key."""

    def openssl(*arguments: str) -> None:
        argv = ["openssl", *arguments]
        done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl(
        *("req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2"),
        *("-subj", "/CN=a private authority", "-addext", "basicConstraints=critical,CA:TRUE"),
        *("-addext", "keyUsage=critical,keyCertSign"),
    )
    openssl("req", *new_key, "-keyout", "key.pem", "-out", "csr.pem", "-subj", "/CN=localhost")
    (folder / "names").write_text("subjectAltName=DNS:localhost\n")
    openssl(
        *("x509", "-req", "-in", "csr.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"),
        *("-out", "chain.pem", "-days", "2", "-extfile", "names"),
    )
    return folder / "ca.pem", folder / "chain.pem", folder / "key.pem"
