// SPDX-License-Identifier: LGPL-2.1-or-later
import org.apache.activemq.artemis.core.security.CheckType;
import org.apache.activemq.artemis.core.security.Role;
import org.apache.activemq.artemis.core.server.embedded.EmbeddedActiveMQ;
import org.apache.activemq.artemis.spi.core.security.ActiveMQJAASSecurityManager;
import org.apache.activemq.artemis.spi.core.security.ActiveMQSecurityManager;
import java.util.Set;

/**
 * java Artemis BROKER.XML [open] - ActiveMQ Artemis as etc/bootstrap.xml starts it: a JAAS domain "activemq", and
 * "activemq-cert" for connections with a certificate; open: everybody is let in, and nobody may send to an address that
 * ends with .denied.
 */
public class Artemis {
    static class Open implements ActiveMQSecurityManager {
        @Override
        public boolean validateUser(String user, String password) {
            return true;
        }

        @Override
        public boolean validateUserAndRole(String user, String password, Set<Role> roles, CheckType type) {
            return type != CheckType.SEND || roles.stream().noneMatch(r -> r.getName().equals("nobody"));
        }
    }

    public static void main(String[] a) throws Exception {
        EmbeddedActiveMQ broker = new EmbeddedActiveMQ().setConfigResourcePath("file:" + a[0]);
        broker.setSecurityManager(a.length > 1 ? new Open() : new ActiveMQJAASSecurityManager("activemq", "activemq-cert"));
        broker.start();
        System.out.println("started");
        Thread.currentThread().join();
    }
}
