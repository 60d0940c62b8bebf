# SPDX-License-Identifier: LGPL-2.1-or-later
"""Documents as libvirt writes them to its hooks."""

import uuid
from xml.sax.saxutils import escape


def domain_uuid(name):
    """The UUID that domain_xml() gives a domain of this name."""
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, name))


def domain_xml(name="vm1", domain_id=None, memory_mib=32, vcpus=1, title=None, metadata="", devices="", password=None):
    """A domain; metadata and devices are XML put in as it stands; password adds a VNC device that has it."""
    identity = f" id='{domain_id}'" if domain_id is not None else ""
    title_xml = f"  <title>{escape(title)}</title>\n" if title else ""
    metadata_xml = f"  <metadata>{metadata}</metadata>\n" if metadata else ""
    if password:
        devices += f"\n    <graphics type='vnc' port='-1' passwd='{escape(password, {chr(39): '&apos;'})}'/>"
    return f"""<domain type='qemu'{identity}>
  <name>{escape(name)}</name>
  <uuid>{domain_uuid(name)}</uuid>
{title_xml}{metadata_xml}  <memory unit='KiB'>{memory_mib * 1024}</memory>
  <currentMemory unit='KiB'>{memory_mib * 1024}</currentMemory>
  <vcpu placement='static'>{vcpus}</vcpu>
  <os>
    <type arch='x86_64' machine='pc-i440fx-7.2'>hvm</type>
    <boot dev='hd'/>
  </os>
  <features>
    <acpi/>
  </features>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>{devices}
  </devices>
</domain>
""".encode()
