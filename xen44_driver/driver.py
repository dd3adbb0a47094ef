# SPDX-License-Identifier: Apache-2.0
"""The compute driver that Nova loads.

``nova.virt.driver.ComputeDriver`` documents every method and its parameters.
Each method here delegates to :mod:`xen44_driver.compute`. A method that is not
here raises ``NotImplementedError`` in the base class.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import ClassVar
from typing import NoReturn

from nova import conf
from nova import context as nova_context
from nova import objects
from nova.compute import provider_tree as nova_provider_tree
from nova.console import type as console_type
from nova.network import model
from nova.objects import diagnostics as nova_diagnostics
from nova.virt import driver
from nova.virt import hardware
from nova.virt import virtapi as nova_virtapi
import os_traits
import os_vif

from xen44_driver import conf as our_conf
from xen44_driver.compute import attachments
from xen44_driver.compute import bootwatch
from xen44_driver.compute import connections
from xen44_driver.compute import consoles
from xen44_driver.compute import cpusets
from xen44_driver.compute import crashdump
from xen44_driver.compute import destroy
from xen44_driver.compute import devices
from xen44_driver.compute import diagnostics
from xen44_driver.compute import faults
from xen44_driver.compute import hostactions
from xen44_driver.compute import hostboot
from xen44_driver.compute import interfaces
from xen44_driver.compute import interrupted
from xen44_driver.compute import lifecycle
from xen44_driver.compute import limits
from xen44_driver.compute import livemigration
from xen44_driver.compute import logkeeper
from xen44_driver.compute import machine
from xen44_driver.compute import node as compute_node
from xen44_driver.compute import password
from xen44_driver.compute import ports
from xen44_driver.compute import power
from xen44_driver.compute import quiesce
from xen44_driver.compute import rebuild
from xen44_driver.compute import rescue
from xen44_driver.compute import resize
from xen44_driver.compute import resources
from xen44_driver.compute import service
from xen44_driver.compute import sharedstorage
from xen44_driver.compute import snapshot
from xen44_driver.compute import spawn
from xen44_driver.compute import startup
from xen44_driver.compute import suspend
from xen44_driver.compute import uptime
from xen44_driver.compute import volumeswap
from xen44_driver.compute import volumeusage
from xen44_driver.storage.kinds import blank
from xen44_driver.xen import host as xen_host

CONF = conf.CONF
our_conf.register_opts(CONF)


@faults.facade
class Xen44Driver(driver.ComputeDriver):
    """Instances as Xen guests, through libvirt's libxl driver."""

    capabilities: ClassVar[dict[str, bool]] = {
        **driver.ComputeDriver.capabilities,
        'has_imagecache': True,
        'supports_attach_interface': True,
        'supports_bfv_rescue': True,
        'supports_device_tagging': True,
        'supports_extend_volume': True,
        'supports_image_type_aki': True,
        'supports_image_type_ami': True,
        'supports_image_type_ari': True,
        'supports_image_type_qcow2': True,
        'supports_image_type_raw': True,
        'supports_multiattach': True,
        'supports_pcpus': True,
        # On hosts with a UEFI firmware, see capabilities_as_traits.
        'supports_stateless_firmware': True,
        'supports_tagged_attach_interface': True,
        'supports_tagged_attach_volume': True,
        'supports_migrate_to_same_host': True,
    }

    def __init__(self, virtapi: nova_virtapi.VirtAPI) -> None:
        super().__init__(virtapi)
        self._availability = service.Availability(virtapi)
        self._limiter = limits.Limiter(
            lambda uuid: limits.restore(self._node, uuid))
        self._boots = bootwatch.BootWatch()
        self._node = compute_node.Node(self._new_host(), virtapi)
        self._console_logs = logkeeper.LogKeeper(self._node)
        os_vif.initialize()

    def _new_host(self) -> xen_host.Host:
        return xen_host.Host(
            CONF.xen44.connection_uri,
            event_callback=lifecycle.forwarder(
                self.emit_event,
                self._limiter.started,
                self._boots.event),
            connection_callback=self._availability.changed)

    # The host

    def init_host(self, host: str) -> None:
        startup.start(self._node)
        # An earlier process may have disabled the service and ended before
        # libvirt was back.
        self._availability.changed(True)
        self._console_logs.start()
        interrupted.start_mending(self._node)
        # Guests may have rebooted themselves since.
        for uuid, record in self._node.host.records().items():
            if not record.state.is_off:
                self._limiter.started(uuid)

    def process_instances_at_startup(
        self, context: nova_context.RequestContext,
        instances: objects.InstanceList,
    ) -> objects.InstanceList:
        # Only Nova 34 and newer call this. Older ones check part of it
        # themselves; each start of an instance checks the rest.
        cpusets.check_instances(instances)
        return instances

    def cleanup_host(self, host: str) -> None:
        self._console_logs.stop()
        self._boots.stop()
        self._node.relays.close()
        # Nova may call init_host again on this driver: give it a new host.
        old, self._node.host = self._node.host, self._new_host()
        old.close()

    def get_available_nodes(self, refresh: bool = False) -> list[str]:
        return [self._node.host.hostname()]

    def get_available_resource(self, nodename: str) -> dict[str, Any]:
        self._availability.settle()
        return resources.available(self._node)

    def update_provider_tree(
        self, provider_tree: nova_provider_tree.ProviderTree,
        nodename: str, allocations: dict[str, Any] | None = None,
    ) -> None:
        resources.update_provider_tree(
            self._node, provider_tree, nodename,
            allocation_ratios=self._get_allocation_ratios)

    def capabilities_as_traits(self) -> dict[str, bool]:
        return {
            **super().capabilities_as_traits(),
            # Variables of UEFI are never kept.
            os_traits.COMPUTE_SECURITY_STATELESS_FIRMWARE:
                resources.has_uefi(self._node)}

    def get_host_uptime(self) -> str:
        return uptime.text()

    def get_host_ip_addr(self) -> str:
        return str(CONF.my_ip)

    def host_power_action(self, action: str) -> str:
        return hostactions.power(self._availability, action)

    def host_maintenance_mode(self, host: str, mode: bool) -> str:
        return hostactions.maintain(self._availability, on=mode)

    def set_host_enabled(self, enabled: bool) -> str:
        # Nova has set its record of the service, and the trait.
        return 'enabled' if enabled else 'disabled'

    def manage_image_cache(
        self, context: nova_context.RequestContext,
        all_instances: objects.InstanceList,
    ) -> None:
        self._node.images.update(context, all_instances)

    def cache_image(
        self, context: nova_context.RequestContext, image_id: str,
    ) -> bool:
        return self._node.images.cache(context, image_id)

    # Which instances there are. Read from the cache, without a libvirt call.

    def get_info(
        self, instance: objects.Instance, use_cache: bool = True,
    ) -> hardware.InstanceInfo:
        return power.info(self._node, instance, cached=use_cache)

    def list_instances(self) -> list[str]:
        return [record.name for record in self._node.host.records().values()]

    def list_instance_uuids(self) -> list[str]:
        return list(self._node.host.records())

    def get_num_instances(self) -> int:
        return len(self._node.host.records())

    def instance_exists(self, instance: objects.Instance) -> bool:
        return instance.uuid in self._node.host.records()

    # Create and delete

    def spawn(
        self, context: nova_context.RequestContext,
        instance: objects.Instance, image_meta: objects.ImageMeta,
        injected_files: Sequence[tuple[str, str]],
        admin_password: str | None, allocations: dict[str, Any],
        network_info: model.NetworkInfo | None = None,
        block_device_info: dict[str, Any] | None = None,
        power_on: bool = True, accel_info: list[Any] | None = None,
    ) -> None:
        spawn.spawn(
            self._node, context, instance, image_meta,
            injected_files=injected_files or (),
            admin_password=admin_password,
            network_info=network_info, block_device_info=block_device_info,
            power_on=power_on)

    def rebuild(
        self, context: nova_context.RequestContext,
        instance: objects.Instance, image_meta: objects.ImageMeta,
        injected_files: Sequence[tuple[str, str]],
        admin_password: str | None, allocations: dict[str, Any],
        bdms: objects.BlockDeviceMappingList, detach_block_devices: Any,
        attach_block_devices: Any,
        network_info: model.NetworkInfo | None = None,
        evacuate: bool = False,
        block_device_info: dict[str, Any] | None = None,
        preserve_ephemeral: bool = False,
        accel_uuids: list[str] | None = None,
        reimage_boot_volume: bool = False,
    ) -> None:
        if not evacuate:
            rebuild.check(
                self._node, context, instance, image_meta,
                network_info=network_info,
                block_device_info=block_device_info)
        # Nova then removes the instance and spawns it again.
        raise NotImplementedError

    def destroy(
        self, context: nova_context.RequestContext,
        instance: objects.Instance, network_info: model.NetworkInfo | None,
        block_device_info: dict[str, Any] | None = None,
        destroy_disks: bool = True, destroy_secrets: bool = True,
    ) -> None:
        self.cleanup(context, instance, network_info, block_device_info,
                     destroy_disks=destroy_disks)

    def cleanup(
        self, context: nova_context.RequestContext,
        instance: objects.Instance, network_info: model.NetworkInfo | None,
        block_device_info: dict[str, Any] | None = None,
        destroy_disks: bool = True, migrate_data: Any = None,
        destroy_vifs: bool = True, destroy_secrets: bool = True,
    ) -> None:
        destroy.cleanup(
            self._node, instance, network_info or (), block_device_info,
            destroy_disks=destroy_disks, destroy_vifs=destroy_vifs)

    def instance_on_disk(self, instance: objects.Instance) -> bool:
        return self._node.files(instance).exist()

    def delete_instance_files(self, instance: objects.Instance) -> bool:
        return self._node.files(instance).delete()

    def check_instance_shared_storage_local(
        self, context: nova_context.RequestContext,
        instance: objects.Instance,
    ) -> dict[str, str] | None:
        return sharedstorage.offer(self._node, instance)

    def check_instance_shared_storage_remote(
        self, context: nova_context.RequestContext, data: dict[str, str],
    ) -> bool:
        return sharedstorage.seen(data)

    def check_instance_shared_storage_cleanup(
        self, context: nova_context.RequestContext, data: dict[str, str],
    ) -> None:
        sharedstorage.withdraw(data)

    # Resize, and migration while stopped

    def migrate_disk_and_power_off(
        self, context: nova_context.RequestContext,
        instance: objects.Instance, dest: str, flavor: objects.Flavor,
        network_info: model.NetworkInfo | None,
        block_device_info: dict[str, Any] | None = None,
        timeout: int = 0, retry_interval: int = 0,
    ) -> str:
        return resize.begin(
            self._node, context, instance, flavor,
            block_device_info=block_device_info, timeout=timeout,
            retry_interval=retry_interval)

    def finish_migration(
        self, context: nova_context.RequestContext,
        migration: objects.Migration, instance: objects.Instance,
        disk_info: str, network_info: model.NetworkInfo | None,
        image_meta: objects.ImageMeta, resize_instance: bool,
        allocations: dict[str, Any],
        block_device_info: dict[str, Any] | None = None,
        power_on: bool = True, share_info: Any = None,
    ) -> None:
        resize.finish(
            self._node, context, instance, network_info=network_info,
            block_device_info=block_device_info, power_on=power_on)

    def confirm_migration(
        self, context: nova_context.RequestContext,
        migration: objects.Migration, instance: objects.Instance,
        network_info: model.NetworkInfo | None,
    ) -> None:
        resize.confirm(self._node, instance)

    def finish_revert_migration(
        self, context: nova_context.RequestContext,
        instance: objects.Instance, network_info: model.NetworkInfo | None,
        migration: objects.Migration,
        block_device_info: dict[str, Any] | None = None,
        power_on: bool = True, share_info: Any = None,
    ) -> None:
        resize.revert(
            self._node, context, instance, network_info=network_info,
            block_device_info=block_device_info, power_on=power_on)

    def check_can_live_migrate_destination(
        self, context: nova_context.RequestContext,
        instance: objects.Instance, src_compute_info: Any,
        dst_compute_info: Any, block_migration: bool | None = False,
        disk_over_commit: bool | None = False,
    ) -> NoReturn:
        livemigration.refuse(self._node)

    # Power

    def power_on(
        self, context: nova_context.RequestContext,
        instance: objects.Instance, network_info: model.NetworkInfo | None,
        block_device_info: dict[str, Any] | None = None,
        accel_info: list[Any] | None = None, share_info: Any = None,
    ) -> None:
        power.power_on(
            self._node, context, instance, network_info=network_info,
            block_device_info=block_device_info)

    def power_off(
        self, instance: objects.Instance, timeout: int = 0,
        retry_interval: int = 0,
    ) -> None:
        power.power_off(self._node, instance, timeout=timeout,
                        retry_interval=retry_interval)

    def reboot(
        self, context: nova_context.RequestContext,
        instance: objects.Instance, network_info: model.NetworkInfo | None,
        reboot_type: str, block_device_info: dict[str, Any] | None = None,
        bad_volumes_callback: Any = None,
        accel_info: list[Any] | None = None, share_info: Any = None,
    ) -> None:
        power.reboot(
            self._node, context, instance, soft=reboot_type == 'SOFT',
            network_info=network_info, block_device_info=block_device_info)

    def pause(self, instance: objects.Instance) -> None:
        power.pause(self._node, instance)

    def unpause(self, instance: objects.Instance) -> None:
        power.unpause(self._node, instance)

    def suspend(
        self, context: nova_context.RequestContext,
        instance: objects.Instance,
    ) -> None:
        suspend.suspend(self._node, context, instance)

    def resume(
        self, context: nova_context.RequestContext,
        instance: objects.Instance, network_info: model.NetworkInfo | None,
        block_device_info: dict[str, Any] | None = None,
        share_info: Any = None,
    ) -> None:
        suspend.resume(
            self._node, context, instance, network_info=network_info,
            block_device_info=block_device_info)

    def resume_state_on_host_boot(
        self, context: nova_context.RequestContext,
        instance: objects.Instance, network_info: model.NetworkInfo | None,
        share_info: Any, block_device_info: dict[str, Any] | None = None,
    ) -> None:
        hostboot.resume_on_host_boot(
            self._node, context, instance, network_info=network_info,
            block_device_info=block_device_info)

    def trigger_crash_dump(self, instance: objects.Instance) -> None:
        crashdump.trigger(self._node, instance)

    # What an instance has used

    def get_instance_diagnostics(
        self, instance: objects.Instance,
    ) -> nova_diagnostics.Diagnostics:
        return diagnostics.instance_diagnostics(self._node, instance)

    def get_diagnostics(self, instance: objects.Instance) -> dict[str, Any]:
        return diagnostics.old_diagnostics(self._node, instance)

    # Images of instances

    def snapshot(
        self, context: nova_context.RequestContext,
        instance: objects.Instance, image_id: str,
        update_task_state: Callable[..., None],
    ) -> None:
        snapshot.snapshot(
            self._node, context, instance, image_id, update_task_state)
    # Rescue

    def rescue(
        self, context: nova_context.RequestContext,
        instance: objects.Instance, network_info: model.NetworkInfo | None,
        image_meta: objects.ImageMeta, rescue_password: str | None,
        block_device_info: dict[str, Any] | None, share_info: Any,
    ) -> None:
        rescue.rescue(
            self._node, context, instance, image_meta,
            network_info=network_info, admin_password=rescue_password,
            block_device_info=block_device_info)

    def unrescue(
        self, context: nova_context.RequestContext,
        instance: objects.Instance,
    ) -> None:
        rescue.unrescue(self._node, context, instance)

    # Consoles

    def get_console_output(
        self, context: nova_context.RequestContext,
        instance: objects.Instance,
    ) -> str:
        return consoles.output(self._node, instance)

    def get_vnc_console(
        self, context: nova_context.RequestContext,
        instance: objects.Instance,
    ) -> console_type.ConsoleVNC:
        return consoles.vnc(self._node, instance)

    def get_spice_console(
        self, context: nova_context.RequestContext,
        instance: objects.Instance,
    ) -> console_type.ConsoleSpice:
        return consoles.spice(self._node, instance)

    def get_serial_console(
        self, context: nova_context.RequestContext,
        instance: objects.Instance,
    ) -> console_type.ConsoleSerial:
        return consoles.serial(self._node, instance)

    # The guest agent

    def set_admin_password(
        self, instance: objects.Instance, new_pass: str,
    ) -> None:
        password.set_admin(instance, new_pass)

    def quiesce(
        self, context: nova_context.RequestContext,
        instance: objects.Instance, image_meta: objects.ImageMeta,
    ) -> None:
        quiesce.freeze(self._node, instance)

    def unquiesce(
        self, context: nova_context.RequestContext,
        instance: objects.Instance, image_meta: objects.ImageMeta,
    ) -> None:
        quiesce.thaw(self._node, instance)

    # Devices

    def plug_vifs(
        self, instance: objects.Instance, network_info: model.NetworkInfo,
    ) -> None:
        ports.plug(instance, network_info)

    def unplug_vifs(
        self, instance: objects.Instance, network_info: model.NetworkInfo,
    ) -> None:
        ports.unplug(instance, network_info)

    def attach_interface(
        self, context: nova_context.RequestContext,
        instance: objects.Instance, image_meta: objects.ImageMeta,
        vif: model.VIF,
    ) -> None:
        interfaces.attach(self._node, context, instance, vif)

    def detach_interface(
        self, context: nova_context.RequestContext,
        instance: objects.Instance, vif: model.VIF,
    ) -> None:
        interfaces.detach(self._node, instance, vif)

    # Volumes

    def get_volume_connector(
        self, instance: objects.Instance,
    ) -> dict[str, Any]:
        return connections.properties()

    def attach_volume(
        self, context: nova_context.RequestContext,
        connection_info: dict[str, Any], instance: objects.Instance,
        mountpoint: str, disk_bus: str | None = None,
        device_type: str | None = None,
        encryption: dict[str, Any] | None = None,
    ) -> None:
        attachments.attach(
            self._node, context, instance, connection_info, mountpoint,
            encryption=encryption)

    def detach_volume(
        self, context: nova_context.RequestContext,
        connection_info: dict[str, Any], instance: objects.Instance,
        mountpoint: str, encryption: dict[str, Any] | None = None,
    ) -> None:
        attachments.detach(self._node, instance, connection_info)

    def extend_volume(
        self, context: nova_context.RequestContext,
        connection_info: dict[str, Any], instance: objects.Instance,
        requested_size: int,
    ) -> None:
        attachments.extend(
            self._node, context, instance, connection_info, requested_size)

    def swap_volume(
        self, context: nova_context.RequestContext,
        old_connection_info: dict[str, Any],
        new_connection_info: dict[str, Any], instance: objects.Instance,
        mountpoint: str, resize_to: int,
    ) -> None:
        volumeswap.swap(self._node, context, instance, old_connection_info,
                        new_connection_info)

    def block_stats(
        self, instance: objects.Instance, disk_id: str,
    ) -> list[int] | None:
        return volumeusage.of_disk(self._node, instance, disk_id)

    def get_all_volume_usage(
        self, context: nova_context.RequestContext,
        compute_host_bdms: list[dict[str, Any]],
    ) -> list[dict[str, Any]]:
        return volumeusage.of_all(self._node, compute_host_bdms)

    # Names of disks

    def default_root_device_name(
        self, instance: objects.Instance, image_meta: objects.ImageMeta,
        root_bdm: objects.BlockDeviceMapping,
    ) -> str:
        return devices.ROOT

    def default_device_names_for_instance(
        self, instance: objects.Instance, root_device_name: str,
        *block_device_lists: objects.BlockDeviceMappingList,
    ) -> None:
        devices.assign(
            instance, *block_device_lists, emulated=machine.emulated_disks(
                instance, self._node.machine_options()))

    def get_device_name_for_instance(
        self, instance: objects.Instance,
        bdms: objects.BlockDeviceMappingList,
        block_device_obj: objects.BlockDeviceMapping,
    ) -> str:
        return attachments.next_name(self._node, instance, bdms)

    def is_supported_fs_format(self, fs_type: str) -> bool:
        return fs_type in blank.FILE_SYSTEMS
