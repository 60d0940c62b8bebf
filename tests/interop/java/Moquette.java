// SPDX-License-Identifier: LGPL-2.1-or-later
import io.moquette.broker.Server;
import io.moquette.broker.config.MemoryConfig;
import io.moquette.broker.security.IAuthorizatorPolicy;
import io.moquette.broker.subscriptions.Topic;
import java.util.List;
import java.util.Properties;

/**
 * java Moquette PORT BROKER.p12 DIRECTORY LIMIT - Moquette over TLS, client certificates demanded from the authority in
 * BROKER.p12. Nobody may publish to a topic that ends with /denied.
 */
public class Moquette {
    static class Rights implements IAuthorizatorPolicy {
        @Override
        public boolean canWrite(Topic topic, String user, String client) {
            return !topic.toString().endsWith("/denied");
        }

        @Override
        public boolean canRead(Topic topic, String user, String client) {
            return true;
        }
    }

    public static void main(String[] a) throws Exception {
        Properties p = new Properties();
        p.setProperty("host", "127.0.0.1");
        p.setProperty("port", "disabled");
        p.setProperty("ssl_port", a[0]);
        p.setProperty("jks_path", a[1]);
        p.setProperty("key_store_type", "PKCS12");
        p.setProperty("key_store_password", "secret");
        p.setProperty("key_manager_password", "secret");
        p.setProperty("need_client_auth", "true");
        p.setProperty("allow_anonymous", "true");
        p.setProperty("data_path", a[2]);
        p.setProperty("persistence_enabled", "true");
        p.setProperty("telemetry_enabled", "false");
        p.setProperty("netty.mqtt.message_size", a[3]);
        Server broker = new Server();
        broker.startServer(new MemoryConfig(p), List.of(), null, null, new Rights());
        System.out.println("started");
        Thread.currentThread().join();
    }
}
