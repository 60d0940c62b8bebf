// SPDX-License-Identifier: LGPL-2.1-or-later
import org.apache.activemq.artemis.core.config.impl.ConfigurationImpl;
import org.apache.activemq.artemis.core.server.JournalType;
import org.apache.activemq.artemis.core.server.embedded.EmbeddedActiveMQ;

/** java Artemis.java PORT BROKER.p12 CA.p12 DIRECTORY - ActiveMQ Artemis over TLS, client certificates demanded. */
public class Artemis {
    public static void main(String[] a) throws Exception {
        ConfigurationImpl c = new ConfigurationImpl();
        c.setSecurityEnabled(false);
        c.setJournalType(JournalType.NIO);
        c.setBrokerInstance(new java.io.File(a[3]));
        c.addAcceptorConfiguration("mqtt", "tcp://127.0.0.1:" + a[0] + "?protocols=MQTT&sslEnabled=true&needClientAuth=true"
            + "&keyStorePath=" + a[1] + "&keyStorePassword=secret&trustStorePath=" + a[2] + "&trustStorePassword=secret");
        EmbeddedActiveMQ broker = new EmbeddedActiveMQ().setConfiguration(c);
        broker.start();
        System.out.println("started");
        Thread.currentThread().join();
    }
}
