#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What the variables may be, and what this machine must have.

# The architecture as the driver's sections of nova.conf name it.
function xen44_arch {
    if is_arch aarch64; then
        echo aarch64
    else
        echo x86_64
    fi
}

# Note a variable whose value does not match.
function _xen44_matches { # NAME PATTERN ALLOWED
    [[ ${!1:-} =~ ^($2)$ ]] || XEN44_WRONG+=("$1=${!1:-}: it is $3")
}

function _xen44_check_nested {
    if [[ $(xen44_arch) != x86_64 ]]; then
        XEN44_WRONG+=("XEN44_NESTED=True: only on x86-64")
    fi
    if is_service_enabled n-cpu; then
        XEN44_WRONG+=("n-cpu is enabled, and with XEN44_NESTED it runs in the \
emulated dom0: disable_service n-cpu")
    fi
    if is_service_enabled tls-proxy; then
        XEN44_WRONG+=("tls-proxy is enabled, and the emulated dom0 does not \
know its certificates: disable_service tls-proxy")
    fi
    # dom0 has no other agent.
    _xen44_matches Q_AGENT openvswitch 'openvswitch with XEN44_NESTED'
    _xen44_matches Q_ML2_TENANT_NETWORK_TYPE vxlan 'vxlan with XEN44_NESTED'
}

# All that is wrong, in one message.
function xen44_refuse_wrong_values {
    local directory='an absolute path, two directories deep or more'
    # localrc is where clean.sh finds it as well.
    _xen44_matches VIRT_DRIVER xen44 'xen44, set in localrc'
    if [[ $(xen44_arch) == x86_64 ]]; then
        _xen44_matches XEN44_DEFAULT_GUEST_TYPE 'hvm|pvh|pv' 'hvm, pvh or pv'
    else
        _xen44_matches XEN44_DEFAULT_GUEST_TYPE pvh 'pvh on ARM'
    fi
    _xen44_matches XEN44_MIN_MEMORY '[0-9]+' 'a number of MiB'
    _xen44_matches XEN44_START_TIMEOUT '[1-9][0-9]*' 'a number of seconds'
    _xen44_matches XEN44_STATE_DIR '/[^/]+/[^/].*' "$directory"
    _xen44_matches XEN44_CACHE_DIR '/[^/]+/[^/].*' "$directory"
    if [[ $XEN44_SHAPE == nested ]]; then
        _xen44_check_nested
    else
        _xen44_matches XEN44_DOM0_MEMORY '[1-9][0-9]*[MG]' \
            'a size such as 8G or 6144M'
    fi
    if [[ ${#XEN44_WRONG[@]} -gt 0 ]]; then
        local all
        printf -v all '%s; ' "${XEN44_WRONG[@]}"
        die $LINENO "xen44: ${all%; }"
    fi
}

function xen44_need_memory {
    local here
    here=$(awk '/^MemTotal:/ {print int($2 / 1024)}' /proc/meminfo)
    if [[ $here -lt $XEN44_MIN_MEMORY ]]; then
        die $LINENO "xen44: this machine has $here MiB of memory, and" \
            "XEN44_MIN_MEMORY is $XEN44_MIN_MEMORY. A dom0 gets more by" \
            "Xen's option dom0_mem."
    fi
}

function xen44_need_dom0 {
    if sudo xl info &> /dev/null; then
        return
    fi
    if [[ $XEN44_INSTALL_XEN == True ]]; then
        xen44_install_xen
        die $LINENO "xen44: Xen is installed and boots by default, with" \
            "$XEN44_DOM0_MEMORY for dom0. Reboot this machine, then run" \
            "stack.sh again."
    fi
    die $LINENO "xen44: this machine is not the dom0 of a Xen host (xl info" \
        "fails). Install and boot Xen first; or set XEN44_INSTALL_XEN=True" \
        "to have it installed here; or set XEN44_NESTED=True to use an" \
        "emulated Xen host as the compute node."
}
