// SPDX-License-Identifier: LGPL-2.1-or-later
import io.moquette.broker.Server;
import io.moquette.broker.config.MemoryConfig;
import java.util.Properties;

/** java Moquette.java PORT BROKER.p12 CA.p12 DIRECTORY - Moquette over TLS. */
public class Moquette {
    public static void main(String[] a) throws Exception {
        Properties p = new Properties();
        p.setProperty("host", "127.0.0.1");
        p.setProperty("port", "disabled");
        p.setProperty("ssl_port", a[0]);
        p.setProperty("jks_path", a[1]);
        p.setProperty("key_store_type", "PKCS12");
        p.setProperty("key_store_password", "secret");
        p.setProperty("key_manager_password", "secret");
        p.setProperty("need_client_auth", "false");
        p.setProperty("allow_anonymous", "true");
        p.setProperty("data_path", a[3]);
        p.setProperty("persistence_enabled", "true");
        p.setProperty("telemetry_enabled", "false");
        Server broker = new Server();
        broker.startServer(new MemoryConfig(p));
        System.out.println("started");
        Runtime.getRuntime().addShutdownHook(new Thread(broker::stopServer));
        Thread.currentThread().join();
    }
}
