#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The checkout's lab: its Xen host, emulated, is the compute node of a devstack
# without Xen, and its small guest is an image for any.

function xen44_uses_lab {
    [[ $XEN44_SHAPE == nested || $XEN44_BUILD_IMAGE == True ]]
}

# Run a command with the lab's directories, as root.
function _xen44_as_lab { # COMMAND...
    sudo env XENLAB_STATE="$XEN44_STATE_DIR/lab" \
        XENLAB_CACHE="$XEN44_CACHE_DIR" PYTHONPATH="$XEN44_DIR/lab" \
        PYTHONDONTWRITEBYTECODE=1 "$@"
}

function _xenlab { # COMMAND...
    _xen44_as_lab "$XEN44_DIR/lab/xenlab" "$@"
}

# In the background: nothing needs it before all services answer.
function xen44_start_lab {
    if [[ $XEN44_SHAPE == nested ]]; then
        _xenlab check
    fi
    # All that the lab would install by itself: it keeps new services from
    # starting while it does, and devstack installs some beside it.
    install_package ca-certificates debian-archive-keyring e2fsprogs gpg \
        iproute2 mmdebstrap openssh-client qemu-utils rsync
    if [[ $XEN44_SHAPE == nested ]]; then
        # Guests of an earlier stack belong to a cloud that is gone.
        _xenlab down --host-only
        _xenlab node
    fi
    async_run xen44-lab _xen44_run_lab
}

# errexit does not hold in here, as devstack asks how it went.
function _xen44_run_lab {
    if [[ $XEN44_SHAPE == nested ]]; then
        _xenlab up --host-only || return
    fi
    if [[ $XEN44_BUILD_IMAGE == True ]]; then
        _xen44_build_image
    fi
}

# Put the disk where devstack's user can read it, by the name of the image.
function _xen44_build_image {
    local disk
    disk=$(_xen44_as_lab python3 -m labkit.guest small | tee /dev/stderr |
        awk '/\.qcow2$/ {print $NF}')
    if [[ -z $disk ]]; then
        return 1
    fi
    sudo install -D -m 0644 "$disk" "$XEN44_STATE_DIR/xen44-small.img"
}

# Make the lab's Xen host a compute node of this devstack.
function xen44_join_lab {
    local xtrace cloud='openstack --os-cloud devstack-admin'
    # dom0 reaches this machine's services, whatever is closed to others.
    sudo iptables -C INPUT -i xenlab0 -j ACCEPT 2> /dev/null ||
        sudo iptables -I INPUT -i xenlab0 -j ACCEPT
    # Passwords are for standard input only.
    xtrace=$(set +o | grep xtrace)
    set +o xtrace
    _xenlab join --venv "$DEVSTACK_VENV" << END
address=$HOST_IP
auth_url=$(iniget "$NOVA_CPU_CONF" service_user auth_url)
region=$REGION_NAME
image_url=http://$SERVICE_HOST/image
transport_url=$(iniget "$NOVA_CPU_CONF" DEFAULT transport_url)
network_transport_url=$(iniget "$NEUTRON_CONF" DEFAULT transport_url)
password=$SERVICE_PASSWORD
guest_type=$XEN44_DEFAULT_GUEST_TYPE
END
    $xtrace
    test_with_retry "$cloud compute service list --host xen1 \
--service nova-compute -f value -c State | grep -qx up" \
        "xen44: nova-compute of xen1 does not report ($(_xen44_look))" \
        "$XEN44_START_TIMEOUT" 5
    test_with_retry "$cloud network agent list --host xen1 \
-f value -c Alive | grep -qx True" \
        "xen44: the network agent of xen1 does not report ($(_xen44_look))" \
        "$XEN44_START_TIMEOUT" 5
    # Its record follows its first report.
    test_with_retry "($TOP_DIR/tools/discover_hosts.sh &&
$cloud hypervisor list -f value -c 'Hypervisor Hostname' | grep -q ^xen1)" \
        "xen44: Nova does not find the hypervisor xen1" 120 5
}

# Where to look when dom0's services do not come up.
function _xen44_look {
    echo "see: sudo XENLAB_STATE=$XEN44_STATE_DIR/lab" \
        "$XEN44_DIR/lab/xenlab ssh tail /var/log/nova/nova-compute.log" \
        "/var/log/neutron/openvswitch-agent.log"
}

# Its network stays until clean.sh: devstack stops its services after this, and
# some then wait a minute for a message queue whose address is gone.
function xen44_stop_lab {
    sudo iptables -D INPUT -i xenlab0 -j ACCEPT 2> /dev/null || true
    _xenlab down --host-only
}

function xen44_reset_lab {
    _xenlab reset
    sudo rm -rf "$XEN44_STATE_DIR/lab"
}
