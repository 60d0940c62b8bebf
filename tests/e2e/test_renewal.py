# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Certificates that are renewed on the disk. Renewed files are used at the next connection without SIGHUP; files that cannot be
used change nothing, and status says so until they are mended. systemd before v260 fills the directory of LoadCredential= at
a start only: a key from there beside a certificate that was renewed is refused, and the line says to restart the unit.
"""

import os
import shutil
import subprocess
import time

import pytest
from lib import wait_until

from .test_verdict import findings


def make(certs, name, seconds, directory):
    """A certificate for the host with a key of its own, valid for this long: (certificate, key)."""
    end = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(time.time() + seconds))
    template = directory / f"{name}.template"
    template.write_text(f'cn = "host"\nexpiration_date = "{end}"\ntls_www_client\nsigning_key\n')
    key, pem = directory / f"{name}.key", directory / f"{name}.pem"
    subprocess.run(["certtool", "--generate-privkey", "--key-type", "ecdsa", "--outfile", key], check=True, capture_output=True)
    command = ["certtool", "--generate-certificate", "--load-privkey", key, "--load-ca-certificate", certs.ca]
    command += ["--load-ca-privkey", certs.directory / "ca.key", "--template", template, "--outfile", pem]
    subprocess.run(command, check=True, capture_output=True)
    key.chmod(0o600)
    return pem, key


def put(source, target):
    """As a renewal does: a new file takes the old one's place."""
    fresh = target.with_name(target.name + ".new")
    shutil.copy(source, fresh)
    fresh.chmod(0o600)
    fresh.rename(target)


@pytest.fixture
def live(bed, tmp_path):
    """A daemon connected with the certificate 'old'; bed.pem and bed.key are its files."""
    bed.pem, bed.key = tmp_path / "live.pem", tmp_path / "live.key"
    for source, target in zip(make(bed.certs, "old", 3600, tmp_path), (bed.pem, bed.key)):
        put(source, target)
    bed.new = make(bed.certs, "new", 86400 * 90, tmp_path)
    bed.broker.start()
    bed.daemon.config["tls"].update(certificate_file=bed.pem, key_file=bed.key)
    bed.daemon.start()
    bed.daemon.wait_connected()
    return bed



def test_renewed_files_are_used_at_the_next_connection(live):
    bed = live
    put(bed.new[0], bed.pem)
    put(bed.new[1], bed.key)
    bed.broker.restart()
    bed.hook("start")
    bed.spool.wait_empty(20)
    assert "the certificate files were renewed" in bed.daemon.output()
    bed.daemon.stop()
    assert bed.daemon.output().count("were renewed") == 1


def test_files_that_cannot_be_used_change_nothing(live):
    """Between the two halves of a renewal certificate and key do not belong together."""
    bed = live
    put(bed.new[0], bed.pem)
    bed.broker.restart()
    bed.hook("start")
    bed.spool.wait_empty(20)
    assert "is not the one of the certificate" in bed.daemon.status()["reload_error"]
    assert bed.run("virtspool", "status").returncode == 1
    put(bed.new[1], bed.key)
    bed.broker.restart()
    bed.hook("stopped")
    bed.spool.wait_empty(20)
    wait_until(lambda: not bed.daemon.status().get("reload_error"), what="it is mended")


def test_a_key_from_systemd_beside_a_renewed_certificate(bed, tmp_path):
    """The directory of LoadCredential= is filled at the start and never again."""
    etc, credentials = tmp_path / "etc", tmp_path / "credentials"
    etc.mkdir()
    credentials.mkdir()
    old, old_key = make(bed.certs, "old", 3600, tmp_path)
    put(old, etc / "host.pem")
    put(old_key, credentials / "host.key")
    bed.broker.start()
    bed.daemon.config["tls"].update(certificate_file=etc / "host.pem", key_file="host.key")
    bed.daemon.environment["CREDENTIALS_DIRECTORY"] = str(credentials)
    bed.daemon.start()
    bed.daemon.wait_connected()
    put(make(bed.certs, "new", 86400, tmp_path)[0], etc / "host.pem")
    bed.daemon.reload()
    assert "restart the unit: systemd reads LoadCredential= only at start" in bed.daemon.output()
    status = bed.run("virtspool", "status")
    assert status.returncode == 1 and "restart the unit" in status.stdout
    os.kill(bed.daemon.pid, 0)
    bed.hook("start")
    bed.spool.wait_empty()


def issue(directory, name, end, template, ca=None):
    """A certificate and its key, ending at this time (seconds from now; ended already: it began a year before)."""
    key, pem, text = (directory / f"{name}.{kind}" for kind in ("key", "pem", "template"))
    date = lambda t: time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(time.time() + t))
    text.write_text(f'cn = "{name}"\nactivation_date = "{date(min(0, end) - 86400)}"\nexpiration_date = "{date(end)}"\n{template}')
    subprocess.run(["certtool", "--generate-privkey", "--key-type", "ecdsa", "--outfile", key], check=True, capture_output=True)
    by = ["--load-ca-certificate", ca, "--load-ca-privkey", ca.with_suffix(".key"), "--generate-certificate"] if ca else []
    command = ["certtool", *(by or ["--generate-self-signed"]), "--load-privkey", key, "--template", text, "--outfile", pem]
    subprocess.run(command, check=True, capture_output=True)
    return pem


def test_of_several_authorities_the_one_that_counts(bed, tmp_path):
    """An old authority that is still in the file is no alarm; the one that the broker rests on is, whatever else is there."""
    authority, server = "ca\ncert_signing_key\n", 'dns_name = "localhost"\ntls_www_server\nsigning_key\n'
    old = issue(tmp_path, "old-ca", -3600, authority)
    ending = issue(tmp_path, "ending-ca", 12 * 3600, authority)
    trusted = tmp_path / "ca-file.pem"
    trusted.write_text(old.read_text() + bed.certs.ca.read_text() + ending.read_text())
    bed.daemon.config["tls"]["ca_file"] = trusted
    bed.broker.start()
    bed.daemon.start()
    bed.daemon.wait_connected()
    wait_until(lambda: findings(bed) == ({}, 0), what=lambda: f"healthy: {findings(bed)}")
    said = bed.run("virtspool", "doctor", "-c", bed.daemon.config_file).stdout
    assert "the authority's certificate is valid until" in said and "expire" not in said
    bed.broker.stop()
    pem = issue(tmp_path, "ending-server", 90 * 86400, server, ca=ending)
    for source in (pem, pem.with_suffix(".key")):
        shutil.copy(source, bed.certs.directory)
    bed.broker.certificate = "ending-server"
    bed.broker.start()
    bed.daemon.wait_connected(2)
    wait_until(lambda: "certificate_expires" in findings(bed)[0], what="status says so")
    found, code = findings(bed)
    assert code == 1 and found["certificate_expires"]["cause"].startswith("the authority's certificate expires in 11 h")
