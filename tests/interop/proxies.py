# SPDX-License-Identifier: LGPL-2.1-or-later
"""
haproxy and nginx in front of brokers, each with a port of its own and the certificate of "broker":

    proxy = Haproxy(directory, certs, [broker, spare], terminate=False, idle=60, protocol=False).start()
    proxy.url

The first broker is used while it is there, then the next. terminate: TLS ends here, client certificates are demanded, and the
brokers are spoken to in the clear. idle: the time-out of a silent connection in seconds. protocol: what the client's address
is goes ahead of each connection (PROXY protocol, version 2).
"""

import os
import socket

from lib import Process, free_port, wait_until
from lib.programs import missing, tool


class Proxy:
    def __init__(self, directory, certs, brokers, terminate=False, idle=60, protocol=False):
        self.directory, self.certs, self.brokers = directory, certs, brokers
        self.terminate, self.idle, self.protocol = terminate, idle, protocol
        self.port = free_port()
        self.process = None

    @property
    def url(self):
        return f"mqtts://localhost:{self.port}"

    def start(self):
        self.directory.mkdir(parents=True)
        self.process = Process(self.command(), self.directory / "log")
        wait_until(self._accepts, 20, lambda: self.process.output())
        return self

    def _accepts(self):
        assert self.process.running, self.process.output()
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return True
        except OSError:
            return False


class Haproxy(Proxy):
    def command(self):
        pem = self.directory / "broker.pem"
        pem.write_text(self.certs.pem("broker").read_text() + self.certs.key("broker").read_text())
        tls = f" ssl crt {pem} ca-file {self.certs.ca} verify required" if self.terminate else ""
        header = " send-proxy-v2" if self.protocol else ""
        # A broker that reads the PROXY protocol takes a look without it for an attack.
        check = "" if self.protocol else " check inter 200ms fall 1 rise 1 on-marked-down shutdown-sessions"
        servers = "\n".join(
            f"  server s{i} 127.0.0.1:{b.port}{check}{header}{' backup' if i else ''}" for i, b in enumerate(self.brokers)
        )
        (self.directory / "haproxy.cfg").write_text(f"""
defaults
  mode tcp
  timeout connect 5s
  timeout client {self.idle}s
  timeout server {self.idle}s
listen mqtt
  bind 127.0.0.1:{self.port}{tls}
{servers}
""")
        return [tool("haproxy"), "-db", "-f", self.directory / "haproxy.cfg"]


class Nginx(Proxy):
    def command(self):
        module = "/usr/lib/nginx/modules/ngx_stream_module.so"
        if not os.path.exists(module):
            missing("libnginx-mod-stream is not installed (scripts/test-interop)")
        servers = " ".join(f"server 127.0.0.1:{b.port}{' backup' if i else ' max_fails=1'};" for i, b in enumerate(self.brokers))
        tls = f"""
    ssl_certificate {self.certs.pem('broker')};
    ssl_certificate_key {self.certs.key('broker')};
    ssl_client_certificate {self.certs.ca};
    ssl_verify_client on;
    ssl_protocols TLSv1.2 TLSv1.3;""" if self.terminate else ""
        (self.directory / "nginx.conf").write_text(f"""
load_module {module};
daemon off;
master_process off;
{"user root;" if os.geteuid() == 0 else ""}
pid {self.directory}/pid;
error_log stderr;
events {{}}
stream {{
  upstream brokers {{ {servers} }}
  server {{
    listen 127.0.0.1:{self.port}{" ssl" if self.terminate else ""};
    proxy_pass brokers;
    proxy_connect_timeout 1s;
    proxy_timeout {self.idle}s;{tls}
  }}
}}
""")
        return [tool("nginx"), "-p", self.directory, "-c", self.directory / "nginx.conf"]


ALL = {"haproxy": Haproxy, "nginx": Nginx}
