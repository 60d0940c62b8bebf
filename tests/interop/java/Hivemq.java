// SPDX-License-Identifier: LGPL-2.1-or-later
import com.hivemq.embedded.EmbeddedExtension;
import com.hivemq.embedded.EmbeddedHiveMQ;
import com.hivemq.embedded.EmbeddedHiveMQBuilder;
import com.hivemq.extension.sdk.api.ExtensionMain;
import com.hivemq.extension.sdk.api.auth.SimpleAuthenticator;
import com.hivemq.extension.sdk.api.auth.parameter.TopicPermission;
import com.hivemq.extension.sdk.api.parameter.ExtensionStartInput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStartOutput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStopInput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStopOutput;
import com.hivemq.extension.sdk.api.services.Services;
import com.hivemq.extension.sdk.api.services.builder.Builders;
import java.nio.file.Path;

/**
 * java Hivemq DIRECTORY [open] - HiveMQ CE with DIRECTORY/conf, data and extensions; open: everybody is let in, and nobody may
 * publish to a topic that ends with /denied.
 */
public class Hivemq {
    static class Open implements ExtensionMain {
        @Override
        public void extensionStart(ExtensionStartInput in, ExtensionStartOutput out) {
            TopicPermission denied = Builders.topicPermission().topicFilter("+/+/+/+/+/denied")
                .type(TopicPermission.PermissionType.DENY).activity(TopicPermission.MqttActivity.PUBLISH).build();
            TopicPermission rest = Builders.topicPermission().topicFilter("#").build();
            SimpleAuthenticator open = (input, output) -> {
                output.getDefaultPermissions().add(denied);
                output.getDefaultPermissions().add(rest);
                output.authenticateSuccessfully();
            };
            Services.securityRegistry().setAuthenticatorProvider(input -> open);
        }

        @Override
        public void extensionStop(ExtensionStopInput in, ExtensionStopOutput out) {
        }
    }

    public static void main(String[] a) throws Exception {
        Path directory = Path.of(a[0]);
        EmbeddedHiveMQBuilder builder = EmbeddedHiveMQ.builder()
            .withConfigurationFolder(directory.resolve("conf"))
            .withDataFolder(directory.resolve("data"))
            .withExtensionsFolder(directory.resolve("extensions"));
        if (a.length > 1)
            builder = builder.withEmbeddedExtension(EmbeddedExtension.builder().withId("open").withName("open")
                .withVersion("1").withPriority(0).withStartPriority(1000).withAuthor("virtspool")
                .withExtensionMain(new Open()).build());
        EmbeddedHiveMQ broker = builder.build();
        broker.start().join();
        System.out.println("started");
        Thread.currentThread().join();
    }
}
