// SPDX-License-Identifier: LGPL-2.1-or-later
import com.hivemq.embedded.EmbeddedHiveMQ;
import java.nio.file.Files;
import java.nio.file.Path;

/** java Hivemq.java PORT BROKER.p12 CA.p12 DIRECTORY - HiveMQ CE over TLS, client certificates demanded. */
public class Hivemq {
    public static void main(String[] a) throws Exception {
        Path directory = Path.of(a[3]);
        for (String d : new String[] {"conf", "data", "extensions"}) Files.createDirectories(directory.resolve(d));
        String store = "<path>%s</path><password>secret</password>";
        Files.writeString(directory.resolve("conf/config.xml"), """
            <hivemq>
              <listeners><tls-tcp-listener>
                <port>%s</port><bind-address>127.0.0.1</bind-address>
                <tls>
                  <keystore>%s<private-key-password>secret</private-key-password></keystore>
                  <truststore>%s</truststore>
                  <client-authentication-mode>REQUIRED</client-authentication-mode>
                </tls>
              </tls-tcp-listener></listeners>
              <anonymous-usage-statistics><enabled>false</enabled></anonymous-usage-statistics>
            </hivemq>
            """.formatted(a[0], store.formatted(a[1]), store.formatted(a[2])));
        EmbeddedHiveMQ broker = EmbeddedHiveMQ.builder()
            .withConfigurationFolder(directory.resolve("conf"))
            .withDataFolder(directory.resolve("data"))
            .withExtensionsFolder(directory.resolve("extensions"))
            .build();
        broker.start().join();
        System.out.println("started");
        Runtime.getRuntime().addShutdownHook(new Thread(() -> broker.stop().join()));
        Thread.currentThread().join();
    }
}
