#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The plugin: devstack sources this as "plugin.sh MODE PHASE", after settings.

_XTRACE_XEN44=$(set +o | grep xtrace)
set +o xtrace

source "$XEN44_DIR/devstack/lib/host.sh"
source "$XEN44_DIR/devstack/lib/lab.sh"
source "$XEN44_DIR/devstack/lib/values.sh"

# Before anything is changed: can this machine do what it is asked for?
function xen44_pre_install {
    xen44_refuse_wrong_values
    case $XEN44_SHAPE in
    dom0)
        xen44_need_dom0
        xen44_need_memory
        # shellcheck disable=SC2046 # one word each
        install_package $(xen44_host_packages)
        ;;
    nested)
        xen44_need_memory
        ;;
    esac
    if xen44_uses_lab; then
        xen44_start_lab
    fi
}

# nova.conf is there, and nothing in the background writes to it yet.
function xen44_install {
    if [[ $XEN44_SHAPE != dom0 ]]; then
        return
    fi
    xen44_prepare_host
    # Without dependencies: pip would build libvirt's Python module anew where
    # constraints name a newer one than Debian's, and could replace Nova. Not
    # editable: the .pth by which Nova finds the driver is in wheels only.
    pip_install 'qemu.qmp>=0.0.6'
    pip_install --no-deps "$XEN44_DIR"
    iniset "$NOVA_CONF" DEFAULT compute_driver xen44.Xen44Driver
    iniset "$NOVA_CONF" "xen44_$(xen44_arch)" default_guest_type \
        "$XEN44_DEFAULT_GUEST_TYPE"
}

# nova-compute starts next, and ends at once with another driver or without.
function xen44_post_config {
    if [[ $XEN44_SHAPE != dom0 ]]; then
        return
    fi
    local driver
    driver=$(iniget "$NOVA_CONF" DEFAULT compute_driver)
    if [[ $driver != xen44.Xen44Driver ]]; then
        die $LINENO "$NOVA_CONF: compute_driver is '$driver', not" \
            "xen44.Xen44Driver. Another plugin has changed it."
    fi
}

# All services answer.
function xen44_extra {
    if ! xen44_uses_lab; then
        return
    fi
    async_wait xen44-lab
    if [[ $XEN44_SHAPE == nested ]]; then
        xen44_join_lab
    fi
    if [[ $XEN44_BUILD_IMAGE == True ]]; then
        upload_image "file://$XEN44_STATE_DIR/xen44-small.img"
    fi
}

# tempest.conf: what the driver can do comes from the support matrix.
function xen44_test_config {
    if ! is_service_enabled tempest; then
        return
    fi
    local column=arm known option value
    if [[ $(xen44_arch) == x86_64 ]]; then
        column=x86-$XEN44_DEFAULT_GUEST_TYPE
    fi
    known=$(PYTHONPATH=$XEN44_DIR/lab PYTHONDONTWRITEBYTECODE=1 \
        python3 -m labkit.features "$column")
    while IFS='=' read -r option value; do
        # A console needs its proxy too.
        case $option in
        vnc_console) is_service_enabled n-novnc || value=false ;;
        serial_console) is_service_enabled n-sproxy || value=false ;;
        spice_console) is_service_enabled n-spice || value=false ;;
        esac
        iniset "$TEMPEST_CONFIG" compute-feature-enabled "$option" "$value"
    done <<< "$known"
    iniset "$TEMPEST_CONFIG" compute hypervisor_type xen
    iniset "$TEMPEST_CONFIG" compute volume_device_name xvdb
    if [[ $XEN44_BUILD_IMAGE == True ]]; then
        # Its DHCP client.
        iniset "$TEMPEST_CONFIG" scenario dhcp_client udhcpc
    fi
}

# What runs ends. nova-compute would run until after this otherwise.
function xen44_unstack {
    if [[ $XEN44_SHAPE == dom0 ]]; then
        stop_process n-cpu
        xen44_remove_guests
    elif [[ $XEN44_SHAPE == nested ]]; then
        xen44_stop_lab
    fi
}

# devstack ran unstack.sh before.
function xen44_clean {
    # Whatever shape it was that left them.
    xen44_restore_host
    if [[ -d $XEN44_STATE_DIR/lab ]]; then
        xen44_reset_lab
    fi
    sudo rm -f "$XEN44_STATE_DIR/xen44-small.img"
    if [[ -d $XEN44_STATE_DIR ]]; then
        sudo rmdir "$XEN44_STATE_DIR"
    fi
}

$_XTRACE_XEN44

if is_service_enabled xen44; then
    case "$1 ${2:-}" in
    "stack pre-install") xen44_pre_install ;;
    "stack install") xen44_install ;;
    "stack post-config") xen44_post_config ;;
    "stack extra") xen44_extra ;;
    "stack test-config") xen44_test_config ;;
    "unstack ") xen44_unstack ;;
    "clean ") xen44_clean ;;
    esac
fi
