# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Other brokers than mosquitto, each private: its own directory, free ports of 127.0.0.1, TLS that demands client
certificates where the broker can. They look like lib.Broker to daemons and subscribers:

    broker.url host port tls certs        as lib.Broker
    broker.start() stop() kill() running output()
    broker.version                        the MQTT version for the daemon's configuration: "5" or "3.1.1"
    broker.login                          (user, password) or None

Everybody may do everything, but for two things: nobody may publish to a topic that ends with /denied, and where the broker
can limit the size of a packet, LIMIT is the limit.
"""

import json
import os
import socket
import subprocess

from lib import Broker as Mosquitto
from lib import Process, free_port, wait_until
from lib.programs import BUILD, ROOT, missing, tool

LIMIT = 64 * 1024  # bytes of a packet
DENIED = "+/+/+/+/+/denied"
# For brokers that cannot deny what another rule allows: all the topics of the tests but that.
ALLOWED = ["other/#", "away/#", "killed/#", "shared/#", "nobody/#", "will/#", "virtspool/v1/node1/#", "+/+/+/status",
           "+/+/+/qemu/+/started"]
INTEROP = BUILD / "interop"
NODE_MODULES = BUILD / "interop/node_modules"
NODE_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "NODE_PATH": str(NODE_MODULES)}


def need(path, package):
    if not os.path.exists(path):
        missing(f"{package} is not installed (scripts/test-interop)")
    return str(path)


def node():
    """A Node.js that is new enough for aedes."""
    need(NODE_MODULES / "aedes", "aedes")
    path = tool("node")
    version = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30).stdout
    if int(version.lstrip("v").split(".")[0]) < 20:
        missing(f"aedes needs Node.js 20, here is {version.strip()}")
    return path


class Other:
    """What they have in common. A subclass says how to start it, in prepare() and command()."""

    tls = True
    host = "localhost"
    login = None
    version = "3.1.1"
    patience = 60

    def __init__(self, directory, certs):
        self.directory, self.certs = directory, certs
        self.port = None
        self.process = None
        self.starts = 0
        self.environment = {}

    @property
    def url(self):
        return f"mqtts://{self.host}:{self.port}"

    @property
    def running(self):
        return self.process is not None and self.process.running

    def start(self):
        if self.port is None:
            self.directory.mkdir(parents=True)
            self.port = free_port()
            self.prepare()
        environment = {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8",
                       "HOME": str(self.directory), **self.environment}
        self.starts += 1
        self.process = Process(self.command(), self.directory / "log", environment, cwd=self.directory)
        wait_until(lambda: self._accepts() or not self.running, self.patience, lambda: f"starts: {self.output()[-3000:]}")
        assert self.running, self.output()[-3000:]
        return self

    def stop(self):
        if self.running:
            self.process.signal(15)
            self.process.wait(60)

    def kill(self):
        if self.running:
            self.process.kill()

    def output(self):
        return (self.directory / "log").read_text(errors="replace")

    def prepare(self):
        pass

    def command(self):
        raise NotImplementedError

    def _accepts(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return True
        except OSError:
            return False


class Mosquitto5(Mosquitto):
    """lib.Broker with what the tests here ask."""

    version, login = "5", None

    def start(self):
        self.acl = ["pattern readwrite #", f"pattern deny {DENIED}"]
        self.options = [f"max_packet_size {LIMIT}", "max_queued_messages 100000"]
        return super().start()


class Mosquitto3(Mosquitto5):
    version = "3.1.1"


class Epmd:
    """Erlang's port mapper, ours alone; otherwise the first Erlang node starts one that outlives it."""

    def __init__(self, directory):
        self.port = free_port()
        directory.mkdir(parents=True, exist_ok=True)
        self.environment = {"ERL_EPMD_PORT": str(self.port), "ERL_EPMD_ADDRESS": "127.0.0.1"}
        path = need("/usr/bin/epmd", "erlang-base")
        self.process = Process([path, "-port", self.port, "-address", "127.0.0.1"], directory / "epmd.log")


class RabbitMQ(Other):
    """Speaks MQTT 3.1.1 (up to 3.12). Who has a client certificate of our authority is let in as `guest`."""

    server = "/usr/lib/rabbitmq/bin/rabbitmq-server"

    def __init__(self, directory, certs, name="one", epmd=None, cluster=()):
        super().__init__(directory, certs)
        self.name, self.epmd = f"{name}@localhost", epmd
        self.cluster = [f"{n}@localhost" for n in cluster]
        self.lines = []

    def prepare(self):
        need(self.server, "rabbitmq-server")
        self.epmd = self.epmd or Epmd(self.directory)
        (self.directory / ".erlang.cookie").write_text("virtspool-interop")
        (self.directory / ".erlang.cookie").chmod(0o400)
        (self.directory / "plugins").write_text("[rabbitmq_mqtt].\n")
        lines = [
            "listeners.tcp = none",
            "mqtt.listeners.tcp = none",
            f"mqtt.listeners.ssl.1 = 127.0.0.1:{self.port}",
            "mqtt.allow_anonymous = true",
            f"ssl_options.cacertfile = {self.certs.ca}",
            f"ssl_options.certfile = {self.certs.pem('broker')}",
            f"ssl_options.keyfile = {self.certs.key('broker')}",
            "ssl_options.verify = verify_peer",
            "ssl_options.fail_if_no_peer_cert = true",
            "ssl_options.versions.1 = tlsv1.2",
            "ssl_options.versions.2 = tlsv1.3",
            "log.console = true",
            "log.file = false",
            *self.rights(),
        ]
        if self.cluster:
            lines += ["cluster_formation.peer_discovery_backend = classic_config"]
            lines += [f"cluster_formation.classic_config.nodes.{i + 1} = {n}" for i, n in enumerate(self.cluster)]
        (self.directory / "rabbitmq.conf").write_text("\n".join(lines + self.lines) + "\n")
        self.environment = {
            **self.epmd.environment,
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_CONFIG_FILE": str(self.directory / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.directory / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.directory / "logs"),
            "RABBITMQ_PID_FILE": str(self.directory / "pid"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RUNNING_UNDER_SYSTEMD": "1",  # that is: no shell that stays in between
        }

    def rights(self):
        definitions = {
            "users": [{"name": "guest", "password": "guest", "tags": "administrator"}],
            "vhosts": [{"name": "/"}],
            "permissions": [{"user": "guest", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}],
            "topic_permissions": [{"user": "guest", "vhost": "/", "exchange": "amq.topic",
                                   "write": r"^(?!.*\.denied$)", "read": ".*"}],
        }
        (self.directory / "rights.json").write_text(json.dumps(definitions))
        return [f"load_definitions = {self.directory}/rights.json"]

    def _accepts(self):
        """It resets connections for a while after it listens."""
        return self.output().count("Server startup complete") >= self.starts

    def command(self):
        return [self.server]

    def control(self, *arguments):
        """What rabbitmqctl says on this node."""
        command = ["/usr/lib/rabbitmq/bin/rabbitmqctl", "-n", self.name, "--quiet", *arguments]
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": str(self.directory),
                       **self.environment}
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


class Ejabberd(Other):
    """Speaks MQTT 5 and 3.1.1, and wants a user's name with its domain."""

    version = "5"
    login = ("host@localhost", "secret")

    def prepare(self):
        need("/usr/sbin/ejabberdctl", "ejabberd")
        self.epmd = Epmd(self.directory)
        pem = self.directory / "broker.pem"
        pem.write_text(self.certs.pem("broker").read_text() + self.certs.key("broker").read_text())
        topics = ", ".join(f'"{topic}": all' for topic in ALLOWED)
        (self.directory / "ejabberd.yml").write_text(f"""
hosts: [localhost]
loglevel: info
certfiles: ["{pem}"]
ca_file: "{self.certs.ca}"
auth_method: [anonymous]
anonymous_protocol: login_anon
allow_multiple_connections: true
listen:
  - port: {self.port}
    ip: "127.0.0.1"
    module: mod_mqtt
    backlog: 100
    tls: true
    tls_verify: true
    max_payload_size: {LIMIT}
modules:
  mod_mqtt:
    max_queue: infinity
    access_publish: {{{topics}}}
""")
        self.environment = {
            **self.epmd.environment,
            "EJABBERD_CONFIG_PATH": str(self.directory / "ejabberd.yml"),
            "EJABBERD_LOG_PATH": str(self.directory / "ejabberd.log"),
            "SPOOL_DIR": str(self.directory),
        }

    def _accepts(self):
        """It closes connections for a while after it listens."""
        log = self.directory / "ejabberd.log"
        return log.exists() and log.read_text().count(" is started in the node") >= self.starts

    def command(self):
        library = next(p for p in ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib") if os.path.isdir(p))
        ebin = next(os.path.join(library, d, "ebin") for d in os.listdir(library) if d.startswith("ejabberd-"))
        return [
            *("/usr/bin/erl", "-sname", "ejabberd@localhost", "-noinput", "-pa", ebin, "-kernel"),
            *("inet_dist_use_interface", "{127,0,0,1}", "-mnesia", "dir", f'"{self.directory}/mnesia"'),
            *("-ejabberd", "config", f'"{self.directory}/ejabberd.yml"', "-s", "ejabberd"),
        ]


class ActiveMQ(Other):
    """ActiveMQ Classic. Speaks MQTT 3.1.1."""

    base = "/usr/share/activemq"

    def prepare(self):
        need(f"{self.base}/lib/activemq-mqtt.jar", "activemq")
        # Debian's activemq does without it, and then fails at each MQTT connection.
        codec = need("/usr/share/java/mqtt-client.jar", "libmqtt-client-java")
        (self.directory / "lib").mkdir()
        (self.directory / "lib/mqtt-client.jar").symlink_to(codec)
        self.certs.keystore("broker", self.directory / "broker.p12")
        self.certs.truststore(self.directory / "ca.p12")
        topics = [topic.translate(str.maketrans("/+#", ".*>")) for topic in ALLOWED]
        entries = "".join(f'<authorizationEntry topic="{t}" read="everybody" write="everybody" admin="everybody"/>' for t in topics)
        (self.directory / "activemq.xml").write_text(f"""
<beans xmlns="http://www.springframework.org/schema/beans" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
  xsi:schemaLocation="http://www.springframework.org/schema/beans
    http://www.springframework.org/schema/beans/spring-beans.xsd
    http://activemq.apache.org/schema/core http://activemq.apache.org/schema/core/activemq-core.xsd">
  <broker xmlns="http://activemq.apache.org/schema/core" brokerName="interop" dataDirectory="{self.directory}/data"
    useJmx="false" advisorySupport="false">
    <persistenceAdapter><kahaDB directory="{self.directory}/data/kahadb"/></persistenceAdapter>
    <plugins>
      <simpleAuthenticationPlugin anonymousAccessAllowed="true" anonymousGroup="everybody"/>
      <authorizationPlugin><map><authorizationMap><authorizationEntries>
        <authorizationEntry queue=">" read="everybody" write="everybody" admin="everybody"/>
        <authorizationEntry topic=">" read="everybody" write="nobody" admin="everybody"/>
        {entries}
      </authorizationEntries></authorizationMap></map></authorizationPlugin>
    </plugins>
    <sslContext>
      <sslContext keyStore="file:{self.directory}/broker.p12" keyStoreType="PKCS12" keyStorePassword="secret"
        trustStore="file:{self.directory}/ca.p12" trustStoreType="PKCS12" trustStorePassword="secret"/>
    </sslContext>
    <transportConnectors>
      <transportConnector name="mqtt"
        uri="mqtt+ssl://127.0.0.1:{self.port}?transport.needClientAuth=true&amp;maximumConnections=100&amp;transport.maxFrameSize={LIMIT}"/>
    </transportConnectors>
  </broker>
</beans>
""")

    def command(self):
        return [
            *(tool("java"), "-Xms32M", "-Xmx256M", f"-Dactivemq.home={self.base}", f"-Dactivemq.base={self.directory}"),
            *(f"-Dactivemq.conf={self.directory}", f"-Dactivemq.data={self.directory}/data"),
            *("-jar", f"{self.base}/bin/activemq.jar", "start", f"xbean:file:{self.directory}/activemq.xml"),
        ]


class Aedes(Other):
    """A broker in Node.js. Speaks MQTT 3.1.1, and keeps everything in memory."""

    def prepare(self):
        self.environment = NODE_ENVIRONMENT

    def command(self):
        return [node(), ROOT / "tests/interop/aedes.js", self.port, self.certs.ca,
                self.certs.pem("broker"), self.certs.key("broker")]


class Mochi(Other):
    """mochi-mqtt, in Go (go/brokers.go). Speaks MQTT 5 and 3.1.1, and keeps everything in memory."""

    version = "5"

    def command(self):
        path = need(INTEROP / "interop", "mochi-mqtt")
        return [path, "mochi", self.port, self.certs.ca, self.certs.pem("broker"), self.certs.key("broker"), LIMIT]


class Nats(Other):
    """nats-server, in Go, with JetStream on disk. Speaks MQTT 3.1.1."""

    program = INTEROP / "nats-server"

    def prepare(self):
        (self.directory / "nats.conf").write_text(f"""
server_name: interop
listen: "127.0.0.1:{free_port()}"
max_payload: {LIMIT}
jetstream {{ store_dir: "{self.directory}/store" }}
authorization {{
  users = [ {{ user: anybody, password: none, permissions: {{ publish: {{ deny: "*.*.*.*.*.denied" }} }} }} ]
}}
no_auth_user: anybody
mqtt {{
  listen: "127.0.0.1:{self.port}"
  tls {{
    cert_file: "{self.certs.pem('broker')}"
    key_file: "{self.certs.key('broker')}"
    ca_file: "{self.certs.ca}"
    verify: true
  }}
}}
""")

    def command(self):
        return [need(self.program, "nats-server"), "-c", self.directory / "nats.conf"]


class Nats29(Nats):
    """Debian's."""

    program = "/usr/sbin/nats-server"


class Amqtt(Other):
    """A broker in Python. Speaks MQTT 3.1.1, and keeps everything in memory."""

    def command(self):
        python = need(INTEROP / "amqtt/bin/python", "amqtt")
        return [python, ROOT / "tests/interop/amqtt_broker.py", self.port, self.certs.ca,
                self.certs.pem("broker"), self.certs.key("broker")]


class Java(Other):
    """What runs in a JVM: tests/interop/java/NAME.java, with the libraries that its profile in pom.xml names."""

    name = None

    def library(self):
        return need(INTEROP / "java" / self.name.lower(), f"{self.name} (Maven)")

    def java(self, *arguments):
        library = self.library()
        return [tool("java"), "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", *self.options(), "-cp",
                f"{library}/classes:{library}/*", self.name, *arguments]

    def options(self):
        return []

    def stores(self):
        """broker.p12 and ca.p12, and in broker.p12 the authority, too. The test is skipped where there is no such broker."""
        self.library()
        self.certs.keystore("broker", self.directory / "broker.p12")
        for store in ("ca.p12", "broker.p12"):
            self.certs.truststore(self.directory / store)

    def _accepts(self):
        return "started" in self.output().splitlines()[-20:] and super()._accepts()


class Hivemq(Java):
    """HiveMQ CE, embedded. Speaks MQTT 5 and 3.1.1."""

    name, version = "Hivemq", "5"

    def prepare(self):
        self.stores()
        for d in ("conf", "data", "extensions"):
            (self.directory / d).mkdir()
        (self.directory / "conf/config.xml").write_text(f"""
<hivemq>
  <listeners><tls-tcp-listener>
    <port>{self.port}</port><bind-address>127.0.0.1</bind-address>
    <tls>
      <keystore>
        <path>{self.directory}/broker.p12</path><password>secret</password><private-key-password>secret</private-key-password>
      </keystore>
      <truststore><path>{self.directory}/ca.p12</path><password>secret</password></truststore>
      <client-authentication-mode>REQUIRED</client-authentication-mode>
    </tls>
  </tls-tcp-listener></listeners>
  <mqtt>
    <packets><max-packet-size>{LIMIT}</max-packet-size></packets>
    <queued-messages><max-queue-size>100000</max-queue-size></queued-messages>
  </mqtt>
  <anonymous-usage-statistics><enabled>false</enabled></anonymous-usage-statistics>
</hivemq>
""")

    def command(self):
        return self.java(self.directory, "open")


class Artemis(Java):
    """ActiveMQ Artemis, embedded. Speaks MQTT 5 and 3.1.1."""

    name, version = "Artemis", "5"

    def prepare(self):
        self.stores()
        acts = ("send", "consume", "browse", "createAddress", "deleteAddress", "createDurableQueue", "deleteDurableQueue",
                "createNonDurableQueue", "deleteNonDurableQueue")
        allowed = "".join(f'<permission type="{act}" roles="everybody"/>' for act in acts)
        denied = allowed.replace('"send" roles="everybody"', '"send" roles="nobody"')
        (self.directory / "broker.xml").write_text(f"""
<configuration xmlns="urn:activemq"><core xmlns="urn:activemq:core">
  <journal-type>NIO</journal-type>
  <paging-directory>{self.directory}/paging</paging-directory>
  <bindings-directory>{self.directory}/bindings</bindings-directory>
  <journal-directory>{self.directory}/journal</journal-directory>
  <large-messages-directory>{self.directory}/large</large-messages-directory>
  <acceptors><acceptor name="mqtt">tcp://127.0.0.1:{self.port}?protocols=MQTT;sslEnabled=true;needClientAuth=true;"""
            f"""keyStorePath={self.directory}/broker.p12;keyStorePassword=secret;trustStorePath={self.directory}/ca.p12;"""
            f"""trustStorePassword=secret;maximumPacketSize={LIMIT}</acceptor></acceptors>
  <security-settings>
    <security-setting match="#">{allowed}</security-setting>
    <security-setting match="*.*.*.*.*.denied">{denied}</security-setting>
  </security-settings>
</core></configuration>
""")

    def command(self):
        return self.java(self.directory / "broker.xml", "open")


class Moquette(Java):
    """Moquette, embedded. Speaks MQTT 3.1.1."""

    name = "Moquette"

    def prepare(self):
        self.stores()
        (self.directory / "data").mkdir()

    def command(self):
        return self.java(self.port, self.directory / "broker.p12", self.directory / "data", LIMIT)


def daemon_of(bed, broker, version=None, **options):
    """A daemon for this broker, not started."""
    daemon = bed.new_daemon(f"daemon-{version}-{options.get('host')}", brokers=broker, **options)
    daemon.config["mqtt"]["version"] = version or broker.version
    if broker.login:
        password = bed.directory / "password"
        password.touch(0o600)
        password.write_text(broker.login[1] + "\n")
        daemon.config["mqtt"] |= {"username": broker.login[0], "password_file": password}
    return daemon


ALL = {
    "mosquitto, MQTT 5": Mosquitto5,
    "mosquitto, MQTT 3.1.1": Mosquitto3,
    "RabbitMQ": RabbitMQ,
    "ejabberd": Ejabberd,
    "ActiveMQ": ActiveMQ,
    "aedes": Aedes,
    "mochi-mqtt": Mochi,
    "NATS": Nats,
    "NATS (Debian)": Nats29,
    "amqtt": Amqtt,
    "HiveMQ": Hivemq,
    "Artemis": Artemis,
    "Moquette": Moquette,
}
