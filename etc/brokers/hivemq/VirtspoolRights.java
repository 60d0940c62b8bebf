// SPDX-License-Identifier: LGPL-2.1-or-later
import com.hivemq.extension.sdk.api.ExtensionMain;
import com.hivemq.extension.sdk.api.auth.SimpleAuthenticator;
import com.hivemq.extension.sdk.api.auth.parameter.SimpleAuthInput;
import com.hivemq.extension.sdk.api.auth.parameter.SimpleAuthOutput;
import com.hivemq.extension.sdk.api.auth.parameter.TopicPermission;
import com.hivemq.extension.sdk.api.auth.parameter.TopicPermission.MqttActivity;
import com.hivemq.extension.sdk.api.auth.parameter.TopicPermission.Retain;
import com.hivemq.extension.sdk.api.client.parameter.ClientTlsInformation;
import com.hivemq.extension.sdk.api.packets.auth.DefaultAuthorizationBehaviour;
import com.hivemq.extension.sdk.api.packets.auth.ModifiableDefaultPermissions;
import com.hivemq.extension.sdk.api.parameter.ExtensionStartInput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStartOutput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStopInput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStopOutput;
import com.hivemq.extension.sdk.api.services.Services;
import com.hivemq.extension.sdk.api.services.builder.Builders;
import java.io.Reader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.cert.X509Certificate;
import java.util.Comparator;
import java.util.Properties;
import javax.naming.ldap.LdapName;
import javax.naming.ldap.Rdn;

/**
 * The certificate's common name is the identity; rights.properties, beside this extension's jar, says who is a host and who a
 * consumer. User names that a client sends do not count.
 */
public class VirtspoolRights implements ExtensionMain, SimpleAuthenticator {
    private Path file;

    @Override
    public void extensionStart(ExtensionStartInput input, ExtensionStartOutput output) {
        file = input.getExtensionInformation().getExtensionHomeFolder().toPath().resolve("rights.properties");
        Services.securityRegistry().setAuthenticatorProvider(provider -> this);
    }

    @Override
    public void extensionStop(ExtensionStopInput input, ExtensionStopOutput output) {
    }

    /** An exception refuses the connection, too: HiveMQ lets nobody in whom this method did not. */
    @Override
    public void onConnect(SimpleAuthInput input, SimpleAuthOutput output) {
        try {
            Properties rights = new Properties();
            try (Reader reader = Files.newBufferedReader(file)) {
                rights.load(reader);
            }
            String name = commonName(input);
            String kind = rights.getProperty(name, "");
            if (!name.equals(owner(rights, input.getConnectPacket().getClientId()))) {
                output.failAuthentication("this client id belongs to another certificate");
            } else if (kind.equals("host")) {
                ModifiableDefaultPermissions allowed = only(output);
                allowed.add(publish("virtspool/v1/" + name + "/#", Retain.NOT_RETAINED));
                allowed.add(publish("virtspool/v1/" + name + "/status", Retain.ALL));
                output.authenticateSuccessfully();
            } else if (kind.equals("consumer")) {
                only(output).add(Builders.topicPermission().topicFilter("virtspool/v1/#")
                    .activity(MqttActivity.SUBSCRIBE).build());
                output.authenticateSuccessfully();
            } else {
                output.failAuthentication("this certificate has no rights here");
            }
        } catch (Exception e) {
            output.failAuthentication("rights cannot be read: " + e.getMessage());
        }
    }

    private static ModifiableDefaultPermissions only(SimpleAuthOutput output) {
        output.getDefaultPermissions().setDefaultBehaviour(DefaultAuthorizationBehaviour.DENY);
        return output.getDefaultPermissions();
    }

    private static TopicPermission publish(String filter, Retain retain) {
        return Builders.topicPermission().topicFilter(filter).activity(MqttActivity.PUBLISH).retain(retain).build();
    }

    private static String commonName(SimpleAuthInput input) throws Exception {
        X509Certificate certificate = input.getConnectionInformation().getClientTlsInformation()
            .flatMap(ClientTlsInformation::getClientCertificate).orElseThrow();
        String found = null;
        for (Rdn part : new LdapName(certificate.getSubjectX500Principal().getName()).getRdns())
            if (part.getType().equalsIgnoreCase("CN")) {
                if (found != null) throw new Exception("a certificate with two common names");
                found = part.getValue().toString();
            }
        if (found == null || found.matches(".*[/+#\\p{Cntrl}].*")) throw new Exception("a common name that is not a host's");
        return found;
    }

    /**
     * Whose client id this is: NAME, virtspool-NAME, or one of them with "-" and more, as virtspool's commands use. The longest
     * NAME counts: node1-a is not node1's, if there is a node1-a.
     */
    private static String owner(Properties rights, String clientId) {
        String id = clientId.startsWith("virtspool-") ? clientId.substring("virtspool-".length()) : clientId;
        return rights.stringPropertyNames().stream().filter(name -> id.equals(name) || id.startsWith(name + "-"))
            .max(Comparator.comparingInt(String::length)).orElse(null);
    }
}
