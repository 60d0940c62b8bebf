// SPDX-License-Identifier: LGPL-2.1-or-later
import io.cloudevents.CloudEvent;
import io.cloudevents.core.provider.EventFormatProvider;
import io.cloudevents.jackson.JsonFormat;
import java.io.FileInputStream;
import java.security.KeyStore;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;
import org.eclipse.paho.mqttv5.client.MqttClient;
import org.eclipse.paho.mqttv5.client.MqttConnectionOptions;
import org.eclipse.paho.mqttv5.client.persist.MemoryPersistence;
import org.eclipse.paho.mqttv5.common.MqttSubscription;

/**
 * java Consumer URL CONSUMER.p12 CA.p12 - paho for MQTT 5 and the CloudEvents SDK: "ready", then one line of JSON for each event
 * as the SDK understood it. A message that the SDK does not accept ends it.
 */
public class Consumer {
    static KeyStore load(String path) throws Exception {
        KeyStore s = KeyStore.getInstance("PKCS12");
        s.load(new FileInputStream(path), "secret".toCharArray());
        return s;
    }

    public static void main(String[] a) throws Exception {
        KeyManagerFactory keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
        keys.init(load(a[1]), "secret".toCharArray());
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(load(a[2]));
        SSLContext tls = SSLContext.getInstance("TLS");
        tls.init(keys.getKeyManagers(), trust.getTrustManagers(), null);
        MqttConnectionOptions options = new MqttConnectionOptions();
        options.setSocketFactory(tls.getSocketFactory());
        MqttClient client = new MqttClient(a[0].replace("mqtts://", "ssl://"), "java", new MemoryPersistence());
        JsonFormat format = (JsonFormat) EventFormatProvider.getInstance().resolveFormat(JsonFormat.CONTENT_TYPE);
        client.connect(options);
        client.subscribe(new MqttSubscription[] {new MqttSubscription("virtspool/v1/#", 1)},
            new org.eclipse.paho.mqttv5.client.IMqttMessageListener[] {(topic, message) -> {
                try {
                    if (!JsonFormat.CONTENT_TYPE.equals(message.getProperties().getContentType()))
                        throw new Exception("content type " + message.getProperties().getContentType());
                    CloudEvent event = format.deserialize(message.getPayload());
                    System.out.write(format.serialize(event)); // UTF-8, whatever the locale
                    System.out.println();
                } catch (Exception e) {
                    e.printStackTrace();
                    Runtime.getRuntime().halt(1);
                }
            }});
        System.out.println("ready");
        Thread.currentThread().join();
    }
}
